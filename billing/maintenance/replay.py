"""Replay: an operator has events worked again, a few by their ids or many by a filter. Safe at any time.

A replay only sets rows back to pending. Working them fetches from Stripe again, so nothing happens twice.
1 count the matching events, without a change  2 note the replay and its reason (LED-16)  3 set the next batch back, of
events that no worker holds (LED-17), and wake workers  4 wait until they have taken most of it, so that new events do
not wait behind a long queue (LED-19)  5 stop between two batches on request, and report the progress (LED-18).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from billing.clock import Clock
from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import Queue
from billing.database import Database
from billing.errors import StaleWrite, TransientError
from billing.maintenance import replay_store
from billing.maintenance.replay_store import Count, EventFilter
from billing.models import ReplayState

log = structlog.get_logger(__name__)

# 100: workers are never idle, and a new event waits behind at most so many customers. That is five seconds at 20
# requests a second for each process.
BATCH = 100
FEW_LEFT = 20
LOOK_SECONDS = 0.2
GIVE_UP_SECONDS = 60.0  # twice the sweep's interval without a single event taken: there is no worker


class ReplayRunning(TransientError):
    """A replay of many events is running; only one runs at a time."""

    code = "replay_running"


class NoWorker(TransientError):
    """Events are pending, and no worker takes them."""

    code = "no_worker"


@dataclass(frozen=True, slots=True)
class Replayed:
    """The progress of a replay."""

    replay_id: int
    counted: int
    replayed: int
    stopped: bool


def count_events(chosen: EventFilter, *, database: Database, clock: Clock) -> Count:
    """Step 1."""
    with database.read() as connection:
        return replay_store.count(connection, chosen, now=clock.now())


def replay_few(chosen: EventFilter, *, reason: str, database: Database, queue: Queue, clock: Clock) -> Replayed:
    """Replay a handful of events in one transaction; it need not wait for a replay of many."""
    now = clock.now()
    with database.write() as connection:
        found = replay_store.count(connection, chosen, now=now)
        replay_id = replay_store.begin(
            connection,
            reason=reason,
            chosen=chosen,
            counted=found.events,
            now=now,
            state=ReplayState.FINISHED,
        )
        assert replay_id is not None, "only a running one meets another"
        rows = replay_store.set_back(
            connection, replay_id, chosen, after=0, up_to=found.newest_id, limit=found.events, now=now
        )
        replay_store.note_replayed(connection, replay_id, len(rows))
    if rows:
        queue.send(WorkEvents())
    log.info("replay.finished", replay_id=replay_id, replayed=len(rows), reason=reason)
    return Replayed(replay_id, found.events, len(rows), stopped=False)


def replay_many(
    chosen: EventFilter,
    found: Count,
    *,
    reason: str,
    database: Database,
    queue: Queue,
    clock: Clock,
    progress: Callable[[int], None] = lambda replayed: None,
    stop: Callable[[], bool] = lambda: False,
    sleep: Callable[[float], None] = time.sleep,
) -> Replayed:
    """Replay the counted events. `progress` is called with each batch's size; `stop` is checked between two polls.

    Raises ReplayRunning, NoWorker, StaleWrite (another replay took its place) and LedgerUnavailable.
    """
    replay_id = begin(chosen, found, reason=reason, database=database, clock=clock)
    waiting: Sequence[int] = [0]
    after, replayed, ended = 0, 0, ReplayState.STOPPED
    try:
        while waiting and not stop():
            now = clock.now()
            with database.write() as connection:
                waiting = replay_store.set_back(
                    connection, replay_id, chosen, after=after, up_to=found.newest_id, limit=BATCH, now=now
                )
                if not replay_store.go_on(connection, replay_id, replayed=len(waiting), now=now):
                    raise StaleWrite("Another replay took the place of this one. See `onelane events replays`.")
            if waiting:
                queue.send(WorkEvents())
            after, replayed = max(waiting, default=after), replayed + len(waiting)
            progress(len(waiting))
            _until_taken(waiting, replay_id, database=database, clock=clock, stop=stop, sleep=sleep)
        ended = ReplayState.STOPPED if waiting else ReplayState.FINISHED
    finally:
        with database.write() as connection:
            replay_store.end(connection, replay_id, state=ended, now=clock.now())
        log.info("replay.ended", replay_id=replay_id, state=ended.value, replayed=replayed, reason=reason)
    return Replayed(replay_id, found.events, replayed, stopped=ended is ReplayState.STOPPED)


def begin(
    chosen: EventFilter,
    found: Count,
    *,
    reason: str,
    database: Database,
    clock: Clock,
    cursor: int = 0,
    newest_id: int | None = None,
) -> int:
    """Step 2. Raises ReplayRunning."""
    now = clock.now()
    with database.write() as connection:
        replay_id = replay_store.begin(
            connection,
            reason=reason,
            chosen=chosen,
            counted=found.events,
            now=now,
            cursor=cursor,
            newest_id=newest_id,
        )
        other = None if replay_id else replay_store.read_running(connection)
    if replay_id is None:
        how_far = f"{other['replayed']} of {other['counted']} events so far; {other['reason']}" if other else "ending"
        raise ReplayRunning(f"A replay runs already ({how_far}). Let it end, or stop it.")
    return replay_id


def _until_taken(
    ids: Sequence[int],
    replay_id: int,
    *,
    database: Database,
    clock: Clock,
    stop: Callable[[], bool],
    sleep: Callable[[float], None],
) -> None:
    """Step 4. An event that a worker has tried counts as taken, whatever the result."""
    quiet = 0.0
    while len(ids) > FEW_LEFT and not stop():
        sleep(LOOK_SECONDS)
        with database.write() as connection:
            left = replay_store.untouched(connection, ids)
            alive = replay_store.go_on(connection, replay_id, replayed=0, now=clock.now())
        if not alive:
            return  # the next batch finds out
        quiet = quiet + LOOK_SECONDS if len(left) == len(ids) else 0.0
        if quiet >= GIVE_UP_SECONDS:
            raise NoWorker("No worker takes the events that were set back. Start one, and replay the rest.")
        ids = left
