"""Replays of many events, which workers run: one batch for each message, so that no thread waits.

1 begin it: note reason, filter and the newest row that it takes (LED-16), and wake a worker  2 a worker comes again
while most of the last batch waits (LED-19)  3 it sets the next batch back and notes how far it is, in one transaction
that expects the place as it was read: of two workers one goes on  4 it ends where nothing is left, or when it was
stopped. What a lost message leaves behind, the sweep finds by its lease.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
import structlog

from billing.clock import Clock
from billing.coordination.jobs import ReplayEvents, WorkEvents
from billing.coordination.queue import Queue
from billing.database import Database
from billing.errors import NotFound
from billing.maintenance import replay_store
from billing.maintenance.replay import ReplayRunning, count_events
from billing.maintenance.replay_store import Count, EventFilter
from billing.models import EventStatus, ReplayState, events, replayed_events, replays
from billing.rules import lease
from billing.rules.words import in_number
from billing.webhooks.claim import untried
from billing.webhooks.event_search import first_id_since

log = structlog.get_logger(__name__)

# 100: workers are never idle, and a new event waits behind at most so many customers. That is five seconds at 20
# requests a second for each process.
BATCH = 100
FEW_LEFT = 20
AGAIN_SECONDS = 0.5  # how often it is looked whether workers have taken the last batch


def begin_run(
    chosen: EventFilter, *, reason: str, database: Database, queue: Queue, clock: Clock, found: Count | None = None
) -> int:
    """Step 1, for what was `found`, or is found now; the replay's id. Raises ReplayRunning and LedgerUnavailable."""
    found = found or count_events(chosen, database=database, clock=clock)
    with database.read() as connection:
        cursor = first_id_since(connection, chosen.since) - 1 if chosen.since else 0
    with database.write() as connection:
        replay_id = replay_store.begin(
            connection,
            reason=reason,
            chosen=chosen,
            counted=found.events,
            now=clock.now(),
            cursor=cursor,
            newest_id=found.newest_id,
        )
        other = None if replay_id else replay_store.read_running(connection)
    if replay_id is None:
        how_far = (
            f"{other['replayed']} of {in_number(other['counted'], 'event')} so far; {other['reason']}"
            if other
            else "ending"
        )
        raise ReplayRunning(f"A replay runs already ({how_far}). Let it end, or stop it.")
    queue.send(ReplayEvents(replay_id))
    return replay_id


def work_run(replay_id: int, *, database: Database, queue: Queue, clock: Clock) -> None:
    """Steps 2 to 4, once. Does nothing for a replay that has ended."""
    now = clock.now()
    with database.write() as connection:
        run = _read(connection, replay_id)
        if run is None:
            return
        rows: Sequence[int] = []
        waits = _many_untouched(connection, replay_id)
        if not waits:
            place = {"after": run.cursor, "up_to": run.newest_id}
            rows = replay_store.set_back(connection, replay_id, run.chosen, **place, limit=BATCH, now=now)
        if not _advance(connection, run, rows, now=now):
            connection.rollback()  # another worker has gone on, or somebody has stopped it
            return
        over = not waits and not rows
        if over:
            replay_store.end(connection, replay_id, state=ReplayState.FINISHED, now=now)
    if over:
        log.info("replay.ended", replay_id=replay_id, state=ReplayState.FINISHED.value, reason=run.reason)
        return
    if rows:
        queue.send(WorkEvents())
    queue.send(ReplayEvents(replay_id), delay_seconds=AGAIN_SECONDS)


def stop_run(replay_id: int, *, database: Database, clock: Clock) -> None:
    """End a running replay; what it has set back is worked all the same. Raises NotFound."""
    with database.write() as connection:
        if not replay_store.end(connection, replay_id, state=ReplayState.STOPPED, now=clock.now()):
            raise NotFound("running replay")


def forgotten_runs(connection: sa.Connection, *, now: datetime) -> list[int]:
    """Running replays for which no message is on its way."""
    forgotten = (_IS_RUN, lease.is_free(replays.c.alive_until, now=now))
    return list(connection.scalars(sa.select(replays.c.id).where(*forgotten)))


@dataclass(frozen=True, slots=True)
class _Run:
    """A running replay, as read."""

    id: int
    reason: str
    chosen: EventFilter
    cursor: int
    newest_id: int


_IS_RUN = sa.and_(replays.c.state == ReplayState.RUNNING, replays.c.newest_id.is_not(None))


def _read(connection: sa.Connection, replay_id: int) -> _Run | None:
    row = connection.execute(sa.select(replays).where(replays.c.id == replay_id, _IS_RUN)).first()
    if row is None:
        return None
    return _Run(row.id, row.reason, _read_filter(row.filter), row.cursor, row.newest_id)


def _advance(connection: sa.Connection, run: _Run, rows: Sequence[int], *, now: datetime) -> bool:
    """Note what was set back and renew the lease; False when the replay is not as it was read any more."""
    same = sa.update(replays).where(replays.c.id == run.id, _IS_RUN, replays.c.cursor == run.cursor)
    values = {"cursor": max(rows, default=run.cursor), "replayed": replays.c.replayed + len(rows)}
    return connection.execute(same.values(**values, alive_until=lease.ends_at(now))).rowcount == 1


def _many_untouched(connection: sa.Connection, replay_id: int) -> bool:
    """Whether more than FEW_LEFT of its events wait and no worker has taken them yet."""
    theirs = sa.and_(replayed_events.c.event_row_id == events.c.id, replayed_events.c.replay_id == replay_id)
    waiting = (events.c.status == EventStatus.PENDING, events.c.claim.is_(None), untried())
    some = sa.select(events.c.id).join(replayed_events, theirs).where(*waiting).limit(FEW_LEFT + 1)
    return len(connection.execute(some).all()) > FEW_LEFT


def _read_filter(described: dict[str, Any]) -> EventFilter:
    """The filter as `described` wrote it."""
    values = dict(described)
    for name in {"since", "until"} & values.keys():
        values[name] = datetime.fromisoformat(values[name])
    for name in {"event_ids", "types"} & values.keys():
        values[name] = tuple(values[name])
    if "status" in values:
        values["status"] = EventStatus(values["status"])
    return EventFilter(**values)
