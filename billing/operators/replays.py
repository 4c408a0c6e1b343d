"""Replays as an operator looks at them: the list, one of them, and what became of its events. Reads only."""

import sqlalchemy as sa

from billing.customers.store import customers_named
from billing.database import Database
from billing.errors import NotFound
from billing.models import EventStatus, events, replayed_events, replays
from billing.operators.listing import Row, Wanted, first_of, rows_of

_SHOWN = [
    replays.c[name] for name in ("id", "reason", "filter", "state", "counted", "replayed", "started_at", "finished_at")
]


def list_replays(wanted: Wanted, *, database: Database) -> list[Row]:
    """The newest replays: reason, filter, state and counts; of a customer those that set back an event of theirs."""
    newest = sa.select(*_SHOWN).where(*wanted.where(at=replays.c.started_at)).order_by(replays.c.id.desc())
    if wanted.customer:
        theirs = sa.select(replayed_events.c.replay_id).join(events, events.c.id == replayed_events.c.event_row_id)
        named = events.c.customer_id.in_(customers_named(wanted.customer))
        newest = newest.where(replays.c.id.in_(theirs.where(named)))
    with database.read() as connection:
        return rows_of(connection, newest.limit(wanted.limit))


def show_replay(replay_id: int, *, database: Database) -> Row:
    """One replay, with `result`: how many of its events are `done`, `waiting`, `failing` or `dead` now.

    Those that wait, fail or are dead are few, so the done ones are the rest. An event that was replayed again since
    counts here, too. Raises NotFound.
    """
    with database.read() as connection:
        row = first_of(connection, sa.select(*_SHOWN).where(replays.c.id == replay_id))
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
    done = row["replayed"] - sum(counts.values())
    return {**row, "result": {"done": max(0, done), **counts}}
