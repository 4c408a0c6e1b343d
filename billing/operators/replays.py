"""Replays as an operator looks at them: the list, one of them, and what became of its events. Reads only."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.customers.store import customers_named
from billing.database import Database
from billing.errors import NotFound
from billing.models import EventStatus, events, replayed_events, replays

Row = dict[str, Any]

_SHOWN = [
    replays.c[name] for name in ("id", "reason", "filter", "state", "counted", "replayed", "started_at", "finished_at")
]


def list_replays(
    *, database: Database, customer: str | None = None, since: datetime | None = None, limit: int
) -> list[Row]:
    """The newest replays: reason, filter, state and counts; that set back an event of theirs, begun since then."""
    query = sa.select(*_SHOWN).order_by(replays.c.id.desc()).limit(limit)
    if customer:
        theirs = sa.select(replayed_events.c.replay_id).join(events, events.c.id == replayed_events.c.event_row_id)
        query = query.where(replays.c.id.in_(theirs.where(events.c.customer_id.in_(customers_named(customer)))))
    if since:
        query = query.where(replays.c.started_at >= since)
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def show_replay(replay_id: int, *, database: Database) -> Row:
    """One replay, with `result`: how many of its events are `done`, `waiting`, `failing` or `dead` now.

    Those that wait, fail or are dead are few, so the done ones are the rest. An event that was replayed again since
    counts here, too. Raises NotFound.
    """
    with database.read() as connection:
        row = connection.execute(sa.select(*_SHOWN).where(replays.c.id == replay_id)).first()
        if row is None:
            raise NotFound("replay")
        failing = sa.case((sa.or_(events.c.attempts > 0, events.c.error.is_not(None)), True), else_=False)
        theirs = sa.and_(replayed_events.c.event_row_id == events.c.id, replayed_events.c.replay_id == replay_id)
        query = (
            sa.select(events.c.status, failing, sa.func.count())
            .join(replayed_events, theirs)
            .where(events.c.status.in_([EventStatus.PENDING, EventStatus.DEAD]))
            .group_by(events.c.status, failing)
        )
        counts = {"waiting": 0, "failing": 0, "dead": 0}
        for status, has_failed, count in connection.execute(query):
            counts["dead" if status == EventStatus.DEAD else "failing" if has_failed else "waiting"] += count
    done = row.replayed - sum(counts.values())
    return {**row._mapping, "result": {"done": max(0, done), **counts}}
