"""`onelane events` and `onelane dead`: list, show, follow and replay what Stripe delivered."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from app.cli.options import (
    Moment,
    as_json,
    bulk_write,
    confirm,
    customer,
    limit,
    progress_bar,
    require_reason,
    since,
    stop_by_signal,
    wait,
    wait_for_worker,
)
from app.cli.replays import failures, replays, stop
from app.cli.tables import show_line, show_one, show_rows
from billing.clock import SYSTEM_CLOCK
from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import InlineQueue, Queue
from billing.database import Database
from billing.errors import NotFound
from billing.maintenance.replay import Replayed, count_events, replay_few, replay_many
from billing.maintenance.replay_store import REPLAYABLE, Count, EventFilter
from billing.models import EventStatus
from billing.operators.audit import audited
from billing.operators.events import list_events, show_event
from billing.operators.replays import show_replay
from billing.operators.tail import follow_events
from billing.process.settings import load_settings
from billing.services import Services, build_services

NOT_ALL_DONE = 1
Result = dict[str, int]  # done, waiting, failing, dead

types = click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
type_ = click.option("--type", "type_", help="Of Stripe's type; customer.subscription.* for a family.")
until = click.option("--until", type=Moment(), help="Received before.")


@click.group()
def events() -> None:
    """What Stripe delivered."""


@events.command("list")
@click.option("--status", type=click.Choice([status.value for status in EventStatus]))
@type_
@customer
@since
@limit
@as_json
def list_command(status: str | None, as_json: bool, **chosen: Any) -> None:
    """List the newest events."""
    show_rows(_list(status, **chosen), as_json=as_json, nothing="No events.")


@events.command("show")
@click.argument("event_id")
@click.option("--payload", is_flag=True, help="With what Stripe sent (personal data).")
@as_json
def show_command(event_id: str, payload: bool, as_json: bool) -> None:
    """Show one event, and when it was replayed and why."""
    database = _database()
    noted = audited(
        "events show --payload",
        target=event_id,
        reason=None,
        database=database,
        clock=SYSTEM_CLOCK,
        dry_run=not payload,  # to look at it without is no use of what is personal
    )
    with noted:
        shown = show_event(event_id, database=database, payload=payload)
    show_one(shown, as_json=as_json)


@events.command("tail")
@click.option("--lines", default=10, show_default=True, type=click.IntRange(0, 1000), help="Of those that are there.")
@as_json
def tail_events(lines: int, as_json: bool) -> None:
    """Follow the events as they come, one line for each (--json: one object for each). Ctrl-C ends it."""
    with stop_by_signal() as stop:
        for row in follow_events(database=_database(), lines=lines, stop=stop):
            show_line(row, as_json=as_json)


@events.command("replay")
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")
@types
@customer
@click.option("--status", type=click.Choice([status.value for status in REPLAYABLE]))
@since
@until
@bulk_write
@wait
@as_json
def replay_events(event_ids: tuple[str, ...], status: str | None, **given: Any) -> None:
    """Have events worked again: some by their ids, or many by a filter.

    Safe at any time: a replayed event asks Stripe what is true now. Ctrl-C stops it after the batch in hand.
    """
    write, chosen = _parted(event_ids, given, status=EventStatus(status) if status else None)
    if not chosen.described():
        raise click.UsageError("Say which: event ids, or --type, --customer, --status, --since, --until.")
    _replay(chosen, **write)


for command in (failures, replays, stop):
    events.add_command(command)


@click.group()
def dead() -> None:
    """Events that were given up after their attempts."""


@dead.command("list")
@type_
@customer
@since
@limit
@as_json
def list_dead(as_json: bool, **chosen: Any) -> None:
    """List the newest dead events, each with its error."""
    rows = _list(EventStatus.DEAD, **chosen)
    show_rows(rows, as_json=as_json, nothing="No dead events.")
    if rows and not as_json:
        which = rows[0]["event_id"] if len(rows) == 1 else "--all"
        click.echo(f"\nOnce what the error says is mended:\nonelane dead redrive {which} --reason ...")


@dead.command("redrive")
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")
@types
@customer
@since
@until
@click.option("--all", "everything", is_flag=True, help="All dead events.")
@bulk_write
@wait
@as_json
def redrive(event_ids: tuple[str, ...], everything: bool, **given: Any) -> None:
    """Have dead events worked again, by their ids or by a filter, and say what became of them. Ctrl-C stops it."""
    write, chosen = _parted(event_ids, given, status=EventStatus.DEAD)
    if everything == (len(chosen.described()) > 1):
        raise click.UsageError("Say which: event ids; or --type, --customer, --since, --until; or --all.")
    _replay(chosen, **write)


def _list(
    status: str | None, *, type_: str | None, customer_id: str | None, since: datetime | None, limit: int
) -> list[dict[str, Any]]:
    chosen = EventFilter(
        types=(type_,) if type_ else (),
        customer_id=customer_id,
        status=EventStatus(status) if status else None,
        since=since,
    )
    return list_events(chosen, database=_database(), limit=limit)


def _parted(event_ids: tuple[str, ...], given: dict[str, Any], **more: Any) -> tuple[dict[str, Any], EventFilter]:
    """Split the options: how to write, and which events."""
    write = {name: given.pop(name) for name in ("dry_run", "reason", "yes", "wait_seconds", "as_json")}
    if event_ids and any(given.values()):
        raise click.UsageError("Either event ids or a filter, not both.")
    return write, EventFilter(event_ids=event_ids, **given, **more)


def _replay(
    chosen: EventFilter, *, dry_run: bool, reason: str | None, yes: bool, wait_seconds: int, as_json: bool
) -> None:
    services = build_services(load_settings())
    why = "" if dry_run else require_reason(reason)
    found = count_events(chosen, database=services.database, clock=services.clock)
    if chosen.event_ids:
        _require_known(chosen.event_ids, services.database)
    click.echo(_described(found), err=as_json)
    if dry_run or not found.events:
        if as_json:
            show_one({"counted": found.events, "by_status": dict(found.by_status), "dry_run": dry_run}, as_json=True)
        return
    if not chosen.event_ids:
        confirm(f"Replay {found.events} events?", yes=yes)
    queue = _queue(services)
    with _audited(chosen, why, services) as say:
        places: dict[str, Any] = {"database": services.database, "queue": queue, "clock": services.clock}
        if chosen.event_ids:
            done = replay_few(chosen, reason=why, **places)
        else:
            done = _replay_many(chosen, found, why, places)
        outcome = _await_outcome(done, services, wait_seconds)
        say(f"{done.replayed} of {done.counted} (replay {done.replay_id}): {_words(outcome)}")
    _show(done, outcome, as_json=as_json)
    if done.stopped or outcome["dead"] or outcome["failing"] or outcome["waiting"]:
        sys.exit(NOT_ALL_DONE)


def _replay_many(chosen: EventFilter, found: Count, reason: str, places: dict[str, Any]) -> Replayed:
    with stop_by_signal() as stop, progress_bar(found.events, "Replaying") as advance:
        return replay_many(chosen, found, reason=reason, progress=advance, stop=stop, **places)


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
    if as_json:
        show_one({**asdict(done), "result": outcome}, as_json=True)
    else:
        what = f": {_words(outcome)}" if done.replayed else ""
        click.echo(f"Replayed {done.replayed:,} of {done.counted:,} (replay {done.replay_id}){what}.")
    if done.stopped:
        click.echo("Stopped: the rest is as it was.", err=True)
    elif done.replayed < done.counted:
        click.echo("Workers have taken the others meanwhile.", err=True)
    if outcome["dead"]:
        click.echo("Why they died again: onelane dead list", err=True)


def _audited(chosen: EventFilter, reason: str, services: Services) -> AbstractContextManager[Callable[[str], None]]:
    target = json.dumps(chosen.described())
    return audited("events replay", target=target, reason=reason, database=services.database, clock=services.clock)


def _queue(services: Services) -> Queue:
    """The broker; while it is away a queue that sends nothing, and the sweep wakes workers."""
    if services.queue.trouble() is None:
        return services.queue
    click.echo("The broker does not answer: workers find the events at their next sweep.", err=True)
    return InlineQueue()


def _described(found: Count) -> str:
    if not found.events:
        return "Nothing to replay: no such events, or they wait for a worker already."
    parts = ", ".join(f"{count:,} {status}" for status, count in sorted(found.by_status.items()))
    return f"{found.events:,} events of {found.customers:,} customers: {parts}."


def _require_known(event_ids: tuple[str, ...], database: Database) -> None:
    for event_id in event_ids:
        try:
            show_event(event_id, database=database)
        except NotFound:
            raise NotFound(f"event {event_id}") from None


def _database() -> Database:
    return Database(load_settings().database_url)
