"""What `events replay` and `dead redrive` do: count, ask, begin, wait for the workers, and say what came of it."""

import sys
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any

import click

from app.cli.options import (
    confirm,
    no_worker,
    noted,
    open_services,
    progress_bar,
    require_reason,
    stop_by_signal,
    wait_for_worker,
)
from app.cli.tables import show_outcome
from billing.coordination.jobs import ReplayEvents, WorkEvents
from billing.coordination.queue import Queue, while_reachable
from billing.database import Database
from billing.errors import NotFound, TransientError
from billing.maintenance.replay import Replayed, count_events, replay_few
from billing.maintenance.replay_run import AGAIN_SECONDS, begin_run, stop_run
from billing.maintenance.replay_store import Count, EventFilter
from billing.models import ReplayState
from billing.operators.events import show_event
from billing.operators.presence import takes
from billing.operators.replays import show_replay
from billing.rules.words import in_number
from billing.services import Services

NOT_ALL_DONE = 1
Result = dict[str, int]  # done, waiting, failing, dead


def parted(event_ids: tuple[str, ...], given: dict[str, Any], **more: Any) -> tuple[dict[str, Any], EventFilter]:
    """Split the options: how to write, and which events."""
    write = {name: given.pop(name) for name in ("dry_run", "reason", "yes", "wait_seconds", "as_json")}
    if event_ids and any(given.values()):
        raise click.UsageError("Either event ids or a filter, not both.")
    return write, EventFilter(event_ids=event_ids, **given, **more)


def replay(
    chosen: EventFilter, *, dry_run: bool, reason: str | None, yes: bool, wait_seconds: int, as_json: bool
) -> None:
    """Count, ask, replay, and say what became of the events. Exits with NOT_ALL_DONE where not all are worked."""
    services = open_services()
    why = "" if dry_run else require_reason(reason)
    found = count_events(chosen, database=services.database, clock=services.clock)
    if chosen.event_ids:
        _require_known(chosen.event_ids, services.database)
    click.echo(_described(found), err=as_json)
    if dry_run or not found.events:
        counted = {"counted": found.events, "by_status": dict(found.by_status), "dry_run": dry_run}
        show_outcome(counted, "", as_json=as_json)
        return
    if not chosen.event_ids:
        confirm(f"Replay {in_number(found.events, 'event')}?", yes=yes)
    queue = _queue(services)
    with noted(services.database, "events replay", chosen.in_words(), why) as say:
        places: dict[str, Any] = {"database": services.database, "queue": queue, "clock": services.clock}
        if chosen.event_ids:
            done = replay_few(chosen, reason=why, **places)
        else:
            done = _replay_many(chosen, found, why, services, queue)
        outcome = _await_outcome(done, services, wait_seconds)
        say(f"{done.replayed} of {done.counted} (replay {done.replay_id}): {_words(outcome)}")
    _show(done, outcome, as_json=as_json)
    if done.stopped or outcome["dead"] or outcome["failing"] or outcome["waiting"]:
        sys.exit(NOT_ALL_DONE)


def _replay_many(chosen: EventFilter, found: Count, reason: str, services: Services, queue: Queue) -> Replayed:
    """Begin it, and show how far workers are until it has ended. Ctrl-C stops it, as does that no worker is there."""
    places: dict[str, Any] = {"database": services.database, "clock": services.clock}
    _require_worker(services.database)
    replay_id = begin_run(chosen, found=found, reason=reason, queue=queue, **places)

    def look() -> dict[str, Any]:
        return show_replay(replay_id, database=services.database)

    with stop_by_signal() as stop, progress_bar(found.events, "Replaying") as advance:
        shown = 0
        try:
            while (row := look())["state"] == ReplayState.RUNNING and not stop():
                _require_worker(services.database)
                advance(row["replayed"] - shown)
                shown = row["replayed"]
                time.sleep(AGAIN_SECONDS)
        finally:
            with suppress(NotFound):  # it has ended
                stop_run(replay_id, **places)
        row = look()
        advance(row["replayed"] - shown)
    return Replayed(replay_id, found.events, row["replayed"], stopped=row["state"] == ReplayState.STOPPED)


def _require_worker(database: Database) -> None:
    if not takes(database, ReplayEvents.queue):
        raise TransientError(no_worker(ReplayEvents))


def _await_outcome(done: Replayed, services: Services, seconds: int) -> Result:
    """What became of them; while some were not tried at all it is waited for, unless somebody has stopped it."""

    def look() -> Result:
        result: Result = show_replay(done.replay_id, database=services.database)["result"]
        return result

    def is_over(result: Result) -> bool:
        return not result["waiting"]

    waits = 0 if done.stopped else seconds
    return wait_for_worker(WorkEvents, look, is_over, database=services.database, seconds=waits)


def _words(result: Result) -> str:
    """`3 done, 1 dead again`."""
    said = {
        "done": "done",
        "dead": "dead again",
        "failing": "failed, to be tried again",
        "waiting": "waiting for a worker",
    }
    return ", ".join(f"{result[name]:,} {what}" for name, what in said.items() if result[name]) or "nothing"


def _show(done: Replayed, outcome: Result, *, as_json: bool) -> None:
    what = f": {_words(outcome)}" if done.replayed else ""
    sentence = f"Replayed {done.replayed:,} of {done.counted:,} (replay {done.replay_id}){what}."
    show_outcome({**asdict(done), "result": outcome}, sentence, as_json=as_json)
    if done.stopped:
        click.echo("Stopped: the rest is as it was.", err=True)
    elif done.replayed < done.counted:
        click.echo("Workers have taken the others meanwhile.", err=True)
    if outcome["dead"]:
        click.echo("Why they died again: onelane dead list", err=True)


def _queue(services: Services) -> Queue:
    queue = while_reachable(services.queue)
    if queue is not services.queue:
        click.echo("The broker does not answer: workers find the events at their next sweep.", err=True)
    return queue


def _described(found: Count) -> str:
    if not found.events:
        return "Nothing to replay: no such events, or they wait for a worker already."
    parts = ", ".join(f"{count:,} {status}" for status, count in sorted(found.by_status.items()))
    return f"{in_number(found.events, 'event')} of {in_number(found.customers, 'customer')}: {parts}."


def _require_known(event_ids: tuple[str, ...], database: Database) -> None:
    for event_id in event_ids:
        try:
            show_event(event_id, database=database)
        except NotFound:
            raise NotFound(f"event {event_id}") from None
