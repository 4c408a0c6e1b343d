"""`onelane report` and `onelane locks list`: counts by status, the age of the oldest row that waits, busy lanes.

Reads only; plain dicts without secrets. With a million events the counts take a fraction of a second: they are for a
person, not for a gauge.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.checkout.view import count_shown
from billing.clock import Clock
from billing.coordination.locks import lane_of, lock_name
from billing.database import Database
from billing.models import (
    CheckoutStatus,
    EventStatus,
    LaneState,
    ReplayState,
    attempts,
    checkouts,
    events,
    incidents,
    lanes,
    marks,
    outbox,
    replays,
    subscriptions,
)
from billing.operators import installation
from billing.operators.causes import read_causes, why_nothing_is_written
from billing.operators.deliveries import read_deliveries
from billing.operators.listing import Row, Wanted, first_of, rows_of
from billing.operators.presence import Process, list_processes
from billing.operators.worst import troubles
from billing.process.marks import STRIPE_LIMITED

DAY = timedelta(hours=24)
_UNDONE = (EventStatus.PENDING, EventStatus.DEAD)  # the outbox has the same words


def summarize(*, database: Database, clock: Clock, broker: str | None = None) -> Row:
    """What is wrong, the worst first; then by subject: rows by status, and when the oldest row that waits arrived.

    `broker` is what is wrong with it, by `Queue.trouble`. Times (`..._at`) are aware UTC. Raises LedgerUnavailable.
    """
    now = clock.now()
    with database.read() as connection:
        there = list_processes(connection)
        summary = {
            "at": now,
            "stripe": _account(connection),
            "events": _events(connection, day=now - DAY),
            "checkouts": {**count_shown(connection, since=now - DAY, now=now), **_oldest_checkout(connection)},
            "lanes": {**_by(connection, lanes.c.state), "failing": _count(connection, lanes, lanes.c.failures > 0)},
            "subscriptions": _by(connection, subscriptions.c.status, subscriptions.c.product.is_not(None)),
            "messages": {**_by(connection, outbox.c.status), **_oldest_message(connection)},
            **_with_stripe(connection),
            "replay": _running_replay(connection),
            "processes": _processes(there),
            **read_causes(connection, now=now),
        }
    summary |= {"ledger": why_nothing_is_written(database), "broker": broker}
    return {"troubles": [asdict(trouble) for trouble in troubles(summary, there)], **summary}


def glance(*, database: Database, clock: Clock, broker: str | None = None) -> Row:
    """What is wrong, the worst first; who is there; and what waits or was given up, since when.

    Only rows that wait are looked at, by their indexes, so it is quick with a million of them. Raises
    LedgerUnavailable.
    """
    now = clock.now()
    with database.read() as connection:
        there = list_processes(connection)
        seen = {
            "at": now,
            "stripe": _account(connection),
            "events": {
                **_by(connection, events.c.status, events.c.status.in_(_UNDONE)),
                "last_received_at": _last_received_at(connection),
                **_oldest_event(connection),
            },
            "checkouts": {
                **_by(connection, checkouts.c.status, checkouts.c.status == CheckoutStatus.PENDING),
                **_oldest_checkout(connection),
            },
            "messages": {
                **_by(connection, outbox.c.status, outbox.c.status.in_(_UNDONE)),
                **_oldest_message(connection),
            },
            **_with_stripe(connection),
            **read_causes(connection, now=now),
        }
    seen |= {"ledger": why_nothing_is_written(database), "broker": broker}
    return {"troubles": [asdict(trouble) for trouble in troubles(seen, there)], **seen, "there": there}


def list_lanes(wanted: Wanted, *, database: Database, held: Mapping[str, float]) -> list[Row]:
    """Busy lanes, by since when they are, and lanes whose lock is held.

    `held` maps a lock's name to the seconds that are left.
    """
    ids = [lane_id for name in held if (lane_id := lane_of(name))]
    with database.read() as connection:
        rows = rows_of(connection, _busy_lanes(wanted, also=ids))
    for row in rows:
        row["lock_seconds"] = held.get(lock_name(row["lane"]))
    return rows


def _account(connection: sa.Connection) -> Row | None:
    bound = installation.read(connection)
    return {"account": bound.stripe_account, "livemode": bound.livemode} if bound else None


def _processes(found: Sequence[Process]) -> Row:
    """How many of each kind are there, workers by queue; and who was there within the last day, and is gone."""
    there = [process for process in found if process.is_there]
    names = [queue for process in there for queue in process.queues]
    kinds = [process.kind for process in there if process.kind != "worker"]
    shown: Row = {f"worker_{name}": names.count(name) for name in sorted(set(names))}
    gone = sum(not process.is_there for process in found)
    return shown | {kind: kinds.count(kind) for kind in sorted(set(kinds))} | ({"gone": gone} if gone else {})


def _events(connection: sa.Connection, *, day: datetime) -> Row:
    pending = events.c.status == EventStatus.PENDING
    return {
        **_by(connection, events.c.status),
        "last_24_h": _count(connection, events, events.c.received_at >= day),
        "last_received_at": _last_received_at(connection),
        "failing": _count(connection, events, pending, events.c.error.is_not(None)),
        **_oldest_event(connection),
    }


def _with_stripe(connection: sa.Connection) -> Row:
    """Deliveries that came and were refused, Stripe's 429, and what a person has to look at."""
    seen = sa.select(marks.c.times, marks.c.last_at).where(marks.c.name == STRIPE_LIMITED)
    still = incidents.c.resolved_at.is_(None)
    return {
        "deliveries": asdict(read_deliveries(connection)),
        "stripe_limited": first_of(connection, seen),
        "incidents": _by(connection, incidents.c.kind, still),
        "oldest_incident": connection.scalar(sa.select(sa.func.min(incidents.c.id)).where(still)),
    }


def _last_received_at(connection: sa.Connection) -> datetime | None:
    newest = sa.select(events.c.received_at).order_by(events.c.id.desc()).limit(1)  # the newest row, not a scan of all
    moment: datetime | None = connection.scalar(newest)
    return moment


def _oldest_event(connection: sa.Connection) -> Row:
    """The oldest that waits, and why the last one that was given up was: by the index of what is not done."""
    dead = sa.select(events.c.error).where(events.c.status == EventStatus.DEAD)
    error = connection.scalar(dead.order_by(events.c.next_attempt_at.desc()).limit(1))
    return {**_oldest(connection, events.c.received_at, events.c.status, events.c.error), "error": error}


def _oldest_checkout(connection: sa.Connection) -> Row:
    why = sa.select(lanes.c.last_error).where(lanes.c.id == checkouts.c.lane_id).scalar_subquery()
    return _oldest(connection, checkouts.c.arrived_at, checkouts.c.status, why)


def _oldest_message(connection: sa.Connection) -> Row:
    """The oldest that waits; how many were refused and are tried again, and why one of them was."""
    found = _oldest(connection, outbox.c.created_at, outbox.c.status)
    refused = (outbox.c.status == "pending", outbox.c.attempts > 0)
    counted = sa.select(sa.func.count(), sa.func.min(outbox.c.created_at)).where(*refused)
    count, oldest = connection.execute(counted).one()
    if not count:
        return found
    error = connection.scalar(sa.select(outbox.c.error).where(*refused).order_by(outbox.c.next_attempt_at).limit(1))
    return {**found, "failing": count, "oldest_failing_at": oldest, "error": error}


def _oldest(
    connection: sa.Connection, at: sa.Column[Any], status: sa.Column[Any], why: sa.ColumnElement[Any] | None = None
) -> Row:
    """When the oldest that waits came, and `why` it waits, where that is asked."""
    query = sa.select(at.label("oldest_pending_at")).where(status == "pending").order_by(at).limit(1)
    if why is not None:
        query = query.add_columns(why.label("waits_for"))
    return first_of(connection, query) or dict.fromkeys(query.selected_columns.keys())


def _running_replay(connection: sa.Connection) -> Row | None:
    columns = [replays.c[name] for name in ("id", "reason", "counted", "replayed", "started_at")]
    return first_of(connection, sa.select(*columns).where(replays.c.state == ReplayState.RUNNING))


_PENDING_OF_LANE = sa.and_(checkouts.c.lane_id == lanes.c.id, checkouts.c.status == CheckoutStatus.PENDING)


def _busy_since() -> sa.ColumnElement[Any]:
    """When the oldest of what waits arrived; without any, when what is being created or closed was begun."""
    begun = sa.select(attempts.c.created_at).where(attempts.c.nonce == lanes.c.nonce)
    return sa.func.coalesce(_oldest_waiting(), begun.scalar_subquery())


def _oldest_waiting() -> sa.ScalarSelect[Any]:
    return sa.select(sa.func.min(checkouts.c.arrived_at)).where(_PENDING_OF_LANE).scalar_subquery()


def _busy_lanes(wanted: Wanted, *, also: Collection[int]) -> sa.Select[Any]:
    """Lanes that are creating or closing, lanes with a pending checkout, and the lanes `also`; the newest first."""
    waiting = sa.select(checkouts.c.lane_id).where(checkouts.c.status == CheckoutStatus.PENDING)
    busy = sa.select(lanes.c.id).where(lanes.c.state.in_([LaneState.CREATING, LaneState.CLOSING]))
    named = sa.select(lanes.c.id).where(lanes.c.id.in_(also))
    counted = sa.select(sa.func.count()).where(_PENDING_OF_LANE).scalar_subquery()
    columns = [lanes.c[name] for name in ("user_id", "product", "failures", "last_error", "next_attempt_at")]
    since = _busy_since().label("busy_since")
    waits = (since, counted.label("pending_checkouts"), _oldest_waiting().label("oldest_waiting_at"))
    query = sa.select(lanes.c.id.label("lane"), lanes.c.state, *waits, *columns)
    where = wanted.where(at=_busy_since(), user_id=lanes.c.user_id)
    query = query.where(lanes.c.id.in_(sa.union(waiting, busy, named)), *where)
    return query.order_by(since.desc().nulls_last(), lanes.c.id.desc()).limit(wanted.limit)


def _by(connection: sa.Connection, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> Row:
    counted = sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _count(connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0)
