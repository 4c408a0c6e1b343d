"""The ledger of events: every SQL statement about what Stripe delivered.

An event is inserted once, claimed with a lease by compare-and-set, and finished, ignored, given back or buried
by whoever still holds the claim. Functions take a connection with an open transaction.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from billing.models import EventStatus, customers, events, installation, replayed_events
from billing.webhooks.envelope import NewEvent

# 1,000: far more than one customer ever makes in a burst; databases limit the parameters of a statement.
CLAIM_LIMIT = 1000


@dataclass(frozen=True, slots=True)
class Claimed:
    """An event that is ours until its lease ends."""

    id: int
    event_id: str
    type: str
    customer_id: str | None
    object_id: str | None
    attempts: int  # this one included


_NEW: dict[str, sa.BindParameter[object]] = {
    field.name: sa.bindparam(f"new_{field.name}", type_=events.c[field.name].type)
    for field in dataclasses.fields(NewEvent)
}
# Another account's event, or one of the other mode: kept as it came, never applied. Decided inside the INSERT,
# so that recording is one statement; before the installation is bound, either mode is taken.
_FOREIGN_MODE = sa.exists().where(installation.c.livemode != _NEW["livemode"])
_OUR_ACCOUNT = sa.exists().where(installation.c.stripe_account == _NEW["account"])
# What is erased stays erased: of a late event only the envelope is kept.
_ERASED = sa.exists().where(customers.c.customer_id == _NEW["customer_id"], customers.c.erased_at.is_not(None))
_REJECT = sa.or_(_FOREIGN_MODE, sa.and_(_NEW["account"] != "", ~_OUR_ACCOUNT))


def _record(insert: postgresql.Insert | sqlite.Insert) -> sa.Executable:
    status = sa.case((_REJECT, sa.literal(EventStatus.REJECTED.value)), else_=_NEW["status"])
    payload = sa.case((_ERASED, sa.null()), else_=_NEW["payload"])
    once = insert.values({**_NEW, "status": status, "payload": payload}).on_conflict_do_nothing()
    return once.returning(events.c.id, events.c.status)


_RECORD = {"postgresql": _record(postgresql.insert(events)), "sqlite": _record(sqlite.insert(events))}


def record(connection: sa.Connection, event: NewEvent) -> tuple[int, EventStatus] | None:
    """Insert the event, rejected when it is not of our account and mode; None when it is there already (LED-1)."""
    values = {f"new_{name}": getattr(event, name) for name in NewEvent.__slots__}
    row = connection.execute(_RECORD[connection.dialect.name], values).first()
    return None if row is None else (row.id, EventStatus(row.status))


def claim(
    connection: sa.Connection, event_row_id: int, *, token: str, now: datetime, until: datetime
) -> Sequence[Claimed]:
    """Take this event and all the customer's others that nobody works on and that are due (LED-2).

    A first attempt is due at once, whatever our clock says: it was the web's clock that dated the row.
    """
    whose = connection.execute(sa.select(events.c.customer_id, events.c.status).where(events.c.id == event_row_id))
    row = whose.first()
    if row is None or row.status != EventStatus.PENDING:
        return []
    same = events.c.id == event_row_id if row.customer_id is None else events.c.customer_id == row.customer_id
    free = sa.and_(
        same,
        events.c.status == EventStatus.PENDING,
        sa.or_(events.c.claimed_until.is_(None), events.c.claimed_until <= now),
        sa.or_(events.c.attempts == 0, events.c.next_attempt_at <= now),
    )
    oldest = sa.select(events.c.id).where(free).order_by(events.c.id).limit(CLAIM_LIMIT)
    # `free` twice: PostgreSQL looks again at a row that another worker has just changed, but not at the subquery.
    statement = (
        sa.update(events)
        .where(events.c.id.in_(oldest), free)
        .values(claim=token, claimed_until=until, attempts=events.c.attempts + 1)
        .returning(*(events.c[name] for name in Claimed.__slots__))
    )
    return [Claimed(**found._mapping) for found in connection.execute(statement)]


def note_customer(connection: sa.Connection, event_row_id: int, *, token: str, customer_id: str) -> bool:
    """Note whose event this is, once that was found out; False when the claim was lost."""
    return _mine(connection, token, [event_row_id], customer_id=customer_id) == 1


def read_payload(connection: sa.Connection, event_row_id: int) -> bytes | None:
    """The bytes that came; None once pruned."""
    payload = connection.scalar(sa.select(events.c.payload).where(events.c.id == event_row_id))
    return None if payload is None else bytes(payload)


def finish(
    connection: sa.Connection, ids: Iterable[int], *, token: str, status: EventStatus, now: datetime, error: str = ""
) -> int:
    """Close claimed events as done, ignored or dead; how many were still ours."""
    end = {"status": status, "finished_at": now, "error": error or None, "claim": None, "claimed_until": None}
    return _mine(connection, token, list(ids), **end)


def give_back(connection: sa.Connection, ids: Iterable[int], *, token: str, error: str, until: datetime) -> int:
    """Let go of claimed events after a failure; nobody works on them before `until`."""
    return _mine(connection, token, list(ids), claim=None, claimed_until=None, error=error, next_attempt_at=until)


def _mine(connection: sa.Connection, token: str, ids: list[int], **values: object) -> int:
    """Change events whose claim is still ours: a worker whose lease ran out changes nothing."""
    still = (events.c.id.in_(ids), events.c.claim == token, events.c.status == EventStatus.PENDING)
    return connection.execute(sa.update(events).where(*still).values(**values)).rowcount


def due(connection: sa.Connection, *, now: datetime, limit: int) -> list[int]:
    """Pending events whose time has come and whom nobody holds, oldest first, one for each customer."""
    statement = (
        sa.select(events.c.id, events.c.customer_id)
        .where(
            events.c.status == EventStatus.PENDING,
            events.c.next_attempt_at <= now,
            sa.or_(events.c.claimed_until.is_(None), events.c.claimed_until <= now),
        )
        .order_by(events.c.next_attempt_at)
        .limit(limit)
    )
    first = {row.customer_id or row.id: row.id for row in reversed(connection.execute(statement).all())}
    return sorted(first.values())


# --- what the gauges of /metrics show


def count_pending(connection: sa.Connection) -> int:
    """How many events wait."""
    return _count(connection, EventStatus.PENDING)


def count_dead(connection: sa.Connection) -> int:
    """How many events were given up."""
    return _count(connection, EventStatus.DEAD)


def oldest_pending_age_seconds(connection: sa.Connection, now: datetime) -> float:
    """For how long the oldest waiting event has been waiting, since it came or was replayed; 0 when none waits."""
    replayed = sa.select(sa.func.max(replayed_events.c.replayed_at)).where(
        replayed_events.c.event_row_id == events.c.id
    )
    since = sa.func.coalesce(replayed.scalar_subquery(), events.c.received_at)
    oldest = connection.scalar(sa.select(sa.func.min(since)).where(events.c.status == EventStatus.PENDING))
    return 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds())


def _count(connection: sa.Connection, status: EventStatus) -> int:
    counted = connection.scalar(sa.select(sa.func.count()).select_from(events).where(events.c.status == status))
    return int(counted or 0)
