"""SQL of remedies and of incidents about duplicates.

Every change of a remedy is a compare-and-set on its state. The unique index `uq_remedies_planned` allows one planned
cancellation for each customer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.models import RemedyState, incidents, remedies
from billing.rules.backoff import Backoff
from billing.subscriptions.projection_store import resolve_if_over, update_open
from billing.subscriptions.troubles import DUPLICATE

BACKOFF = Backoff(timedelta(seconds=5), timedelta(hours=1))
_UNFINISHED = (RemedyState.PLANNED, RemedyState.CANCELED)
# An event about money may change these: a refund fails, or an open invoice of what was canceled is paid after all.
_GIVEN_BACK = (RemedyState.CANCELED, RemedyState.REFUNDED, RemedyState.NOTHING_TO_REFUND)


@dataclass(frozen=True, slots=True)
class Incident:
    """A row of `incidents`, as far as its remedy needs it."""

    id: int
    customer_id: str
    product: str
    failures: int
    next_attempt_at: datetime | None
    resolved_at: datetime | None
    chosen: Mapping[str, Any] | None  # by a person


@dataclass(frozen=True, slots=True)
class Remedy:
    """A row of `remedies`, as read."""

    id: int
    incident_id: int
    customer_id: str
    product: str
    subscription_id: str
    kept_id: str
    nonce: str
    refund_key: str
    state: RemedyState
    error: str | None
    notices: int


_REMEDY = [remedies.c[name] for name in Remedy.__slots__]


# --- reading


def read_incident(connection: sa.Connection, incident_id: int) -> Incident | None:
    """An incident about duplicates."""
    columns = [incidents.c[name] for name in Incident.__slots__]
    own = sa.select(*columns).where(incidents.c.id == incident_id, incidents.c.kind == DUPLICATE)
    row = connection.execute(own).first()
    return None if row is None else Incident(**row._mapping)


def find_planned(connection: sa.Connection, incident: Incident) -> Remedy | None:
    """The planned cancellation, which may have been sent."""
    return next(iter(_of(connection, incident, RemedyState.PLANNED)), None)


def find_kept(connection: sa.Connection, row: Incident | Remedy) -> frozenset[str]:
    """The subscriptions in whose favor a cancellation was ever planned."""
    return frozenset(connection.scalars(sa.select(remedies.c.kept_id).where(*_of_customer(row))))


def find_owed(connection: sa.Connection, incident: Incident) -> Sequence[Remedy]:
    """The canceled subscriptions whose money is not back, and those that an event was about since it was."""
    return _of(connection, incident, RemedyState.CANCELED, _noticed_since)


def has_unfinished(connection: sa.Connection, incident: Incident) -> bool:
    """Whether a remedy was begun, which has to be finished even under another policy."""
    begun = sa.select(remedies.c.id).where(*_of_customer(incident), _is_unfinished)
    return connection.execute(begun.limit(1)).first() is not None


def due(connection: sa.Connection, *, now: datetime, limit: int, open_ones: bool) -> Sequence[int]:
    """Incidents with an unfinished remedy, or a person's wish, whose time has come; with `open_ones` every open one."""
    unfinished = sa.exists().where(remedies.c.incident_id == incidents.c.id, _is_unfinished)
    asked = sa.true() if open_ones else incidents.c.chosen.is_not(sa.null())
    wanted = sa.or_(unfinished, sa.and_(incidents.c.resolved_at.is_(None), asked))
    its_time = BACKOFF.is_due(incidents.c.next_attempt_at, now=now)
    statement = sa.select(incidents.c.id).where(incidents.c.kind == DUPLICATE, its_time, wanted)
    return list(connection.scalars(statement.order_by(incidents.c.id).limit(limit)))


# --- changing


def plan(connection: sa.Connection, values: dict[str, Any]) -> bool:
    """Write a cancellation before it is sent.

    False while another one of this customer is unsettled, and for a subscription that was chosen to stay before: the
    cancellation in its favor may still be on its way (SUB-18). Looked at after the insert, which waits for the others.
    """
    if not insert_new(connection, remedies, {**values, "state": RemedyState.PLANNED}):
        return False
    same = (remedies.c.customer_id == values["customer_id"], remedies.c.product == values["product"])
    was_kept = sa.select(remedies.c.id).where(*same, remedies.c.kept_id == values["subscription_id"]).limit(1)
    if connection.execute(was_kept).first() is None:
        return True
    connection.execute(sa.delete(remedies).where(remedies.c.nonce == values["nonce"]))
    return False


def settle(
    connection: sa.Connection, remedy: Remedy, state: RemedyState, *, now: datetime, reason: str | None = None
) -> bool:
    """Change a remedy's state by compare-and-set, and its incident with it; whether this worker changed it.

    `reason` is what of its money is not back. While that is so the incident is open, and it is opened again (SUB-114).
    """
    ended = None if state in _UNFINISHED else now
    won = _change(connection, remedy, state=state, finished_at=ended, error=reason, noticed=remedy.notices)
    if won and ended is not None:
        resolve_if_over(connection, customer_id=remedy.customer_id, product=remedy.product, now=now)
    if won and ended is None:
        _reopen(connection, remedy)
    return won


def note_money_event(connection: sa.Connection, customer_id: str) -> Sequence[int]:
    """Something happened to a refund or a payment of this customer: the incidents whose remedies look again."""
    theirs = sa.update(remedies).where(remedies.c.customer_id == customer_id, remedies.c.state.in_(_GIVEN_BACK))
    noted = theirs.values(notices=remedies.c.notices + 1).returning(remedies.c.incident_id)
    return sorted(set(connection.scalars(noted)))


def put_off(
    connection: sa.Connection, incident: Incident, *, failures: int, until: datetime | None, reason: str | None
) -> None:
    """Note when to check this incident again, and on the customer's open one why it is open."""
    own = sa.update(incidents).where(incidents.c.id == incident.id)
    connection.execute(own.values(failures=failures, next_attempt_at=until))
    still = update_open(DUPLICATE, customer_id=incident.customer_id, product=incident.product)
    connection.execute(still.values(reason=reason))


def _reopen(connection: sa.Connection, remedy: Remedy) -> None:
    """Open the remedy's incident again, unless the customer has an open one."""
    others = sa.alias(incidents)
    same = (others.c.customer_id == incidents.c.customer_id, others.c.product == incidents.c.product)
    is_open = sa.exists().where(*same, others.c.kind == incidents.c.kind, others.c.resolved_at.is_(None))
    own = sa.update(incidents).where(incidents.c.id == remedy.incident_id, incidents.c.resolved_at.is_not(None))
    connection.execute(own.where(~is_open).values(resolved_at=None))


_noticed_since = sa.and_(remedies.c.notices != remedies.c.noticed, remedies.c.state.in_(_GIVEN_BACK))
_is_unfinished = sa.or_(remedies.c.state.in_(_UNFINISHED), _noticed_since)


def _of_customer(row: Incident | Remedy) -> tuple[sa.ColumnElement[bool], ...]:
    return remedies.c.customer_id == row.customer_id, remedies.c.product == row.product


def _of(
    connection: sa.Connection, incident: Incident, state: RemedyState, *more: sa.ColumnElement[bool]
) -> list[Remedy]:
    wanted = sa.or_(remedies.c.state == state, *more)
    statement = sa.select(*_REMEDY).where(*_of_customer(incident), wanted)
    rows = connection.execute(statement.order_by(remedies.c.id))
    return [Remedy(**dict(row._mapping) | {"state": RemedyState(row.state)}) for row in rows]


def _change(connection: sa.Connection, remedy: Remedy, **values: Any) -> bool:
    same = (remedies.c.id == remedy.id, remedies.c.state == remedy.state, remedies.c.refund_key == remedy.refund_key)
    return connection.execute(sa.update(remedies).where(*same).values(**values)).rowcount == 1
