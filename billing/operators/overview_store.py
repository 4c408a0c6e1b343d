"""SQL of the overview: counts by status, and the oldest of what waits."""

from collections.abc import Collection
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.models import (
    CheckoutStatus,
    EventStatus,
    LaneState,
    ReplayState,
    checkouts,
    events,
    incidents,
    installation,
    lanes,
    outbox,
    replays,
    subscriptions,
)

Row = sa.RowMapping

_TAILED = [events.c[name] for name in ("id", "received_at", "event_id", "type", "status", "customer_id")]


def find_installation(connection: sa.Connection) -> Row | None:
    """The Stripe account and mode."""
    row = connection.execute(sa.select(installation.c.stripe_account, installation.c.livemode)).first()
    return row._mapping if row else None


def count_events(connection: sa.Connection, *, day: datetime) -> dict[str, Any]:
    """By status, and how many came within the day."""
    waits = events.c.status == EventStatus.PENDING
    return {
        **_by(connection, events.c.status),
        "last_24_h": _count(connection, events, events.c.received_at >= day),
        "last_received_at": connection.scalar(
            sa.select(events.c.received_at).order_by(events.c.id.desc()).limit(1)  # the newest row, not a scan of all
        ),
        "failing": _count(connection, events, waits, events.c.error.is_not(None)),
        "oldest_pending_at": connection.scalar(sa.select(sa.func.min(events.c.received_at)).where(waits)),
    }


def count_checkouts(connection: sa.Connection, *, day: datetime) -> dict[str, Any]:
    """Those of the day by status, and since when one has been waiting."""
    oldest = sa.select(sa.func.min(checkouts.c.arrived_at)).where(checkouts.c.status == CheckoutStatus.PENDING)
    return {
        **_by(connection, checkouts.c.status, checkouts.c.arrived_at >= day),
        "oldest_pending_at": connection.scalar(oldest),
    }


def count_lanes(connection: sa.Connection) -> dict[str, Any]:
    """By state, and how many failed in passing when they were last worked."""
    return {**_by(connection, lanes.c.state), "failing": _count(connection, lanes, lanes.c.failures > 0)}


def count_subscriptions(connection: sa.Connection) -> dict[str, Any]:
    """Those of the catalog's products, by Stripe's status."""
    return _by(connection, subscriptions.c.status, subscriptions.c.product.is_not(None))


def count_messages(connection: sa.Connection) -> dict[str, Any]:
    """What the application is told, by status."""
    waits = outbox.c.status == "pending"
    oldest = connection.scalar(sa.select(sa.func.min(outbox.c.created_at)).where(waits))
    return {**_by(connection, outbox.c.status), "oldest_pending_at": oldest}


def count_incidents(connection: sa.Connection) -> dict[str, Any]:
    """The open ones, by kind."""
    return _by(connection, incidents.c.kind, incidents.c.resolved_at.is_(None))


def find_running_replay(connection: sa.Connection) -> dict[str, Any] | None:
    """The replay that runs, and how far it is."""
    columns = [replays.c[name] for name in ("id", "reason", "counted", "replayed", "started_at")]
    row = connection.execute(sa.select(*columns).where(replays.c.state == ReplayState.RUNNING)).first()
    return dict(row._mapping) if row else None


def list_lanes(connection: sa.Connection, *, also: Collection[int], limit: int) -> list[Row]:
    """Lanes in the middle of something, those with a checkout that waits, and `also` these."""
    waits = sa.select(checkouts.c.lane_id).where(checkouts.c.status == CheckoutStatus.PENDING)
    busy = sa.select(lanes.c.id).where(lanes.c.state.in_([LaneState.CREATING, LaneState.CLOSING]))
    named = sa.select(lanes.c.id).where(lanes.c.id.in_(also))
    pending = sa.select(sa.func.count()).where(
        checkouts.c.lane_id == lanes.c.id, checkouts.c.status == CheckoutStatus.PENDING
    )
    columns = [lanes.c[name] for name in ("user_id", "product", "state", "failures", "last_error", "next_attempt_at")]
    query = sa.select(lanes.c.id.label("lane"), *columns, pending.scalar_subquery().label("pending_checkouts"))
    query = query.where(lanes.c.id.in_(sa.union(waits, busy, named))).order_by(lanes.c.id).limit(limit)
    return [row._mapping for row in connection.execute(query)]


def newest_events(connection: sa.Connection, *, limit: int) -> list[Row]:
    """The newest events, in order."""
    rows = connection.execute(sa.select(*_TAILED).order_by(events.c.id.desc()).limit(limit)).all()
    return [row._mapping for row in reversed(rows)]


def events_after(connection: sa.Connection, row_id: int, seen: Collection[int]) -> list[Row]:
    """Events of later rows that were not seen, in order."""
    rows = connection.execute(sa.select(*_TAILED).where(events.c.id > row_id).order_by(events.c.id))
    return [row._mapping for row in rows if row.id not in seen]


def _by(connection: sa.Connection, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, Any]:
    counted = sa.select(column, sa.func.count()).where(*where).group_by(column).order_by(column)
    return {row[0]: row[1] for row in connection.execute(counted)}


def _count(connection: sa.Connection, table: sa.Table, *where: sa.ColumnElement[bool]) -> int:
    return int(connection.scalar(sa.select(sa.func.count()).select_from(table).where(*where)) or 0)
