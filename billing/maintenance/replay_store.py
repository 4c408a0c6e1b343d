"""The ledger of replays: which events an operator had worked again, and the step that sets them back to pending.

An event is set back only while no worker holds it, in the transaction that notes the replay. At most one replay
of many runs at a time: the unique index `uq_replays_running` keeps a second one out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.clock import iso
from billing.customers.store import customers_named
from billing.database import insert_new_id
from billing.models import EventStatus, ReplayState, events, replayed_events, replays
from billing.rules import lease
from billing.webhooks.claim import untried
from billing.webhooks.event_search import concrete_types, first_id_since, has_id, like

REPLAYABLE = tuple(status for status in EventStatus if status is not EventStatus.REJECTED)


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events to replay: those that match every field that is set."""

    event_ids: tuple[str, ...] = ()
    types: tuple[str, ...] = ()  # `*` is any text: `customer.subscription.*`
    customer_id: str | None = None  # with `*`, too; or the id of their user
    status: EventStatus | None = None
    since: datetime | None = None  # received at or after
    until: datetime | None = None  # received before

    def described(self) -> dict[str, Any]:
        """The fields that are set, for the history."""
        said = ((name, getattr(self, name)) for name in self.__slots__)
        return {name: _plain(value) for name, value in said if value}

    def in_words(self) -> str:
        """The same for a person: `type invoice.*; status dead; customer ann`."""
        return filter_in_words(self.described())


@dataclass(frozen=True, slots=True)
class Count:
    """The events that a filter matches at one moment."""

    by_status: Mapping[str, int]
    customers: int
    newest_id: int  # later events are not replayed

    @property
    def events(self) -> int:
        return sum(self.by_status.values())


def filter_in_words(described: Mapping[str, Any]) -> str:
    """What `described` gives, as it is stored with a replay, for a person."""
    parts = (f"{_WORDS[name]} {_listed(described[name])}".lstrip() for name in _WORDS if name in described)
    return "; ".join(parts) or "every event"


# The customer last: by it the audit log finds what was about a user (`billing/operators/audit.py`).
_WORDS = {"event_ids": "", "types": "type", "status": "status", "since": "since", "until": "until",
          "customer_id": "customer"}  # fmt: skip


def count(connection: sa.Connection, chosen: EventFilter, *, now: datetime, most: int | None = None) -> Count:
    """Count the events that could be replayed now; with `most`, no more than one more than that."""
    where = matching(replace(chosen, types=concrete_types(connection, chosen.types)), now=now)
    if chosen.since:
        where.append(events.c.id >= first_id_since(connection, chosen.since))
    # Read once: a row lies beside its payload, and of a day there are tens of thousands.
    query = sa.select(events.c.id, events.c.status, events.c.customer_id).where(*where)
    found = query.limit(most and most + 1).cte("found")
    by_status = sa.select(found.c.status, sa.func.count(), sa.func.max(found.c.id)).group_by(found.c.status)
    customers = sa.select(sa.literal(""), sa.func.count(found.c.customer_id.distinct()), sa.literal(0))
    rows = {row[0]: row[1:] for row in connection.execute(sa.union_all(by_status, customers))}
    theirs, _ = rows.pop("")
    newest = max((row[1] for row in rows.values()), default=0)
    return Count({status: number for status, (number, _) in rows.items()}, theirs, newest)


def begin(
    connection: sa.Connection,
    *,
    reason: str,
    chosen: EventFilter,
    counted: int,
    now: datetime,
    state: ReplayState = ReplayState.RUNNING,
    cursor: int = 0,
    newest_id: int | None = None,
) -> int | None:
    """Note a replay and return its id; None while another one runs. One whose process is gone is ended first."""
    running = replays.c.state == ReplayState.RUNNING
    gone = sa.update(replays).where(running, lease.is_free(replays.c.alive_until, now=now))
    connection.execute(gone.values(state=ReplayState.STOPPED, finished_at=now))
    values = {
        "reason": reason,
        "filter": chosen.described(),
        "counted": counted,
        "started_at": now,
        "alive_until": lease.ends_at(now),
        "state": state,
        "finished_at": None if state is ReplayState.RUNNING else now,
        "cursor": cursor,
        "newest_id": newest_id,
    }
    replay_id: int | None = insert_new_id(connection, replays, values)
    return replay_id


def read_running(connection: sa.Connection) -> sa.RowMapping | None:
    """The running replay."""
    row = connection.execute(sa.select(replays).where(replays.c.state == ReplayState.RUNNING)).first()
    return row._mapping if row else None


def set_back(
    connection: sa.Connection, replay_id: int, chosen: EventFilter, *, after: int, up_to: int, limit: int, now: datetime
) -> Sequence[int]:
    """Set the next matching events back to pending, oldest first, as if never tried; their ids."""
    held = (
        sa.select(events.c.id, events.c.status, events.c.error)
        .where(*matching(chosen, now=now), events.c.id > after, events.c.id <= up_to)
        .order_by(events.c.id)
        .limit(limit)
        # A worker that holds the row's lock is claiming it. Waiting could deadlock: it may wait for rows of ours.
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(held).all()
    if not rows:
        return []
    anew = {"status": EventStatus.PENDING, "attempts": 0, "next_attempt_at": now, "error": None, "finished_at": None}
    ours = sa.update(events).where(events.c.id.in_([row.id for row in rows]), _is_free(now))
    connection.execute(ours.values(**anew, claim=None, claimed_until=None))
    was = [
        {
            "event_row_id": row.id,
            "replay_id": replay_id,
            "was_status": row.status,
            "was_error": row.error,
            "replayed_at": now,
        }
        for row in rows
    ]
    connection.execute(sa.insert(replayed_events), was)
    return [row.id for row in rows]


def end(connection: sa.Connection, replay_id: int, *, state: ReplayState, now: datetime) -> bool:
    """Note how it ended, unless the replay that took its place has; whether it was running."""
    ours = sa.update(replays).where(replays.c.id == replay_id, replays.c.state == ReplayState.RUNNING)
    return connection.execute(ours.values(state=state, finished_at=now)).rowcount == 1


def note_replayed(connection: sa.Connection, replay_id: int, replayed: int) -> None:
    """Note how many events a replay of a few set back."""
    connection.execute(sa.update(replays).where(replays.c.id == replay_id).values(replayed=replayed))


def matching(chosen: EventFilter, *, now: datetime | None = None) -> list[sa.ColumnElement[bool]]:
    """The filter in SQL; with `now`, of those only that may be set back."""
    where = [_is_free(now)] if now else []
    if chosen.event_ids:
        where.append(has_id(*chosen.event_ids))
    if chosen.types:
        where.append(sa.or_(*map(_of_type, chosen.types)))
    if chosen.customer_id:
        where.append(_of_customer(chosen.customer_id))
    if chosen.status:
        where.append(events.c.status == chosen.status)
    if chosen.since:
        where.append(events.c.received_at >= chosen.since)
    if chosen.until:
        where.append(events.c.received_at < chosen.until)
    return where


def _is_free(now: datetime) -> sa.ColumnElement[bool]:
    """Finished, or failed and pending, and claimed by no worker. A first attempt that is pending needs no replay."""
    unheld = lease.is_free(events.c.claimed_until, now=now)
    can_be = events.c.status != EventStatus.REJECTED  # not IN, for which SQLite reads its index of nearly all events
    return sa.and_(can_be, unheld, sa.or_(events.c.status != EventStatus.PENDING, ~untried()))


def _of_customer(text: str) -> sa.ColumnElement[bool]:
    if "*" in text:
        return like(events.c.customer_id, text)
    return events.c.customer_id.in_(customers_named(text))


def _of_type(type_: str) -> sa.ColumnElement[bool]:
    return like(events.c.type, type_)


def _listed(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(map(str, value))


def _plain(value: object) -> object:
    return iso(value) if isinstance(value, datetime) else value
