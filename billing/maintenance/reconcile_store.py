"""SQL of reconciling: unknown events and customers, customers to compare, and sessions that a live attempt owns."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

import sqlalchemy as sa

from billing.models import EventSource, EventStatus, customers, events, installation, lanes, projections

CHUNK = 500  # ids in one statement; databases limit its parameters


def unknown_of(connection: sa.Connection, event_ids: Sequence[str]) -> set[str]:
    """Which of these events of our own account are not in the ledger."""
    ours = connection.execute(sa.select(installation.c.stripe_account)).scalars().all()
    # Both modes and both ways to write our own account: so the unique index finds them, not a scan.
    own = (events.c.account.in_(["", *ours]), events.c.livemode.in_([True, False]), events.c.event_id.in_(event_ids))
    return set(event_ids) - set(connection.scalars(sa.select(events.c.event_id).where(*own)))


def note_source(connection: sa.Connection, row_ids: Collection[int]) -> None:
    """Note that these events were found by reconciling."""
    found = sa.update(events).where(events.c.id.in_(row_ids))
    connection.execute(found.values(source=EventSource.RECONCILED))


def bound_at(connection: sa.Connection) -> datetime | None:
    """When this ledger was bound to its account; None before."""
    return connection.scalar(sa.select(installation.c.bound_at))


def unknown_customers(connection: sa.Connection, customer_ids: Collection[str]) -> list[str]:
    """Those of the customers who were never fetched and have no pending event."""
    known = connection.scalars(sa.select(projections.c.customer_id).where(projections.c.customer_id.in_(customer_ids)))
    waits = (events.c.customer_id.in_(customer_ids), events.c.status == EventStatus.PENDING)
    waiting = connection.scalars(sa.select(events.c.customer_id).where(*waits).distinct())
    return sorted(set(customer_ids) - set(known) - set(waiting))


def to_compare(connection: sa.Connection, *, after: str, before: datetime, limit: int) -> list[str]:
    """Ids of customers after `after` who were not fetched since `before` and have no pending event, ordered."""
    fetched = sa.select(projections.c.customer_id.label("id")).where(
        projections.c.synced_at < before, projections.c.deleted.is_(False)
    )
    # From an import or a checkout, without any event so far.
    never = sa.select(customers.c.customer_id.label("id")).where(
        customers.c.customer_id.is_not(None), ~sa.exists().where(projections.c.customer_id == customers.c.customer_id)
    )
    found: list[str] = []
    for query in (fetched, never):  # each by its own index: a union would sort all of them for every batch
        id_ = query.selected_columns.id
        waits = sa.exists().where(events.c.customer_id == id_, events.c.status == EventStatus.PENDING)
        found += connection.scalars(query.where(id_ > after, ~waits).order_by(id_).limit(limit))
    return sorted(found)[:limit]


def owned_of(connection: sa.Connection, *, nonces: Iterable[str], session_ids: Iterable[str]) -> set[str]:
    """Which of these nonces and sessions belong to a lane's live attempt."""
    found: set[str] = set()
    for column, values in ((lanes.c.nonce, list(nonces)), (lanes.c.session_id, list(session_ids))):
        for start in range(0, len(values), CHUNK):
            live = sa.select(column).where(column.in_(values[start : start + CHUNK]), lanes.c.nonce.is_not(None))
            found.update(connection.scalars(live))
    return found


def owned_customers(connection: sa.Connection, customer_ids: Collection[str]) -> set[str]:
    """Those of the customers that belong to a user of ours."""
    wanted, found = list(customer_ids), set[str]()
    for start in range(0, len(wanted), CHUNK):
        some = sa.select(customers.c.customer_id).where(customers.c.customer_id.in_(wanted[start : start + CHUNK]))
        found.update(id_ for id_ in connection.scalars(some) if id_)
    return found
