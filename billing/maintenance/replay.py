"""Replay: an operator has events worked again, a few by their ids or many by a filter. Safe at any time.

A replay only sets rows back to pending. Working them fetches from Stripe again, so nothing happens twice. A few are set
back at once, of those that no worker holds (LED-17). Many are the workers' (`replay_run.py`).
"""

from dataclasses import dataclass

import structlog

from billing.clock import Clock
from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import Queue
from billing.database import Database
from billing.errors import TransientError
from billing.maintenance import replay_store
from billing.maintenance.replay_store import Count, EventFilter
from billing.models import ReplayState

log = structlog.get_logger(__name__)


class ReplayRunning(TransientError):
    """A replay of many events is running; only one runs at a time."""

    code = "replay_running"


@dataclass(frozen=True, slots=True)
class Replayed:
    replay_id: int
    counted: int
    replayed: int
    stopped: bool


def count_events(chosen: EventFilter, *, database: Database, clock: Clock, most: int | None = None) -> Count:
    """What a replay would take now; with `most`, no more than one more than that. Nothing is changed."""
    with database.read() as connection:
        return replay_store.count(connection, chosen, now=clock.now(), most=most)


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
