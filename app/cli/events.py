"""`onelane events` and `onelane dead`: list, show, follow and replay what Stripe delivered."""

import json
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import click

from app.cli.options import Moment, as_json, bulk_write, confirm, limit, progress_bar, require_reason, stop_by_signal
from app.cli.tables import show_line, show_one, show_rows
from billing.coordination.queue import InlineQueue, Queue
from billing.database import Database
from billing.errors import NotFound
from billing.maintenance.replay import count_events, replay_few, replay_many
from billing.maintenance.replay_store import REPLAYABLE, Count, EventFilter
from billing.models import EventStatus
from billing.operators import lookup
from billing.operators.audit import audited
from billing.operators.tail import follow_events
from billing.process.settings import load_settings
from billing.services import Services, build_services

STOPPED = 1

types = click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
customer = click.option("--customer", "customer_id", help="Of one Stripe customer.")
since = click.option("--since", type=Moment(), help="Received since: 2026-06-01T12:00Z, or 36h ago.")
until = click.option("--until", type=Moment(), help="Received before.")


@click.group()
def events() -> None:
    """What Stripe delivered."""


@events.command("list")
@click.option("--status", type=click.Choice([status.value for status in EventStatus]))
@click.option("--type", "type_", help="Stripe's event type.")
@limit
@as_json
def list_events(status: str | None, type_: str | None, limit: int, as_json: bool) -> None:
    """List the newest events."""
    rows = lookup.list_events(database=_database(), status=status, type_=type_, limit=limit)
    show_rows(rows, as_json=as_json, nothing="No events.")


@events.command("show")
@click.argument("event_id")
@click.option("--payload", is_flag=True, help="With what Stripe sent (personal data).")
@as_json
def show_event(event_id: str, payload: bool, as_json: bool) -> None:
    """Show one event, and when it was replayed and why."""
    show_one(lookup.show_event(event_id, database=_database(), payload=payload), as_json=as_json)


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
def replay_events(event_ids: tuple[str, ...], status: str | None, **given: Any) -> None:
    """Have events worked again: some by their ids, or many by a filter.

    Safe at any time: a replayed event asks Stripe what is true now. Ctrl-C stops it after the batch in hand.
    """
    write, chosen = _parted(event_ids, given, status=EventStatus(status) if status else None)
    if not chosen.described():
        raise click.UsageError("Say which: event ids, or --type, --customer, --status, --since, --until.")
    _replay(chosen, **write)


@events.command("replays")
@limit
@as_json
def list_replays(limit: int, as_json: bool) -> None:
    """List the newest replays: reason, filter and progress."""
    show_rows(lookup.list_replays(database=_database(), limit=limit), as_json=as_json, nothing="No replays.")


@click.group()
def dead() -> None:
    """Events that were given up after their attempts."""


@dead.command("list")
@click.option("--type", "type_", help="Stripe's event type.")
@limit
@as_json
def list_dead(type_: str | None, limit: int, as_json: bool) -> None:
    """List the newest dead events, each with its error."""
    rows = lookup.list_events(database=_database(), status=EventStatus.DEAD, type_=type_, limit=limit)
    show_rows(rows, as_json=as_json, nothing="No dead events.")


@dead.command("redrive")
@click.argument("event_ids", nargs=-1, metavar="[EVENT_ID]...")
@types
@customer
@since
@until
@bulk_write
def redrive(event_ids: tuple[str, ...], **given: Any) -> None:
    """Have dead events worked again: all of them, or those that the options choose. Ctrl-C stops it."""
    write, chosen = _parted(event_ids, given, status=EventStatus.DEAD)
    _replay(chosen, **write)


def _parted(event_ids: tuple[str, ...], given: dict[str, Any], **more: Any) -> tuple[dict[str, Any], EventFilter]:
    """Split the options: how to write, and which events."""
    write = {name: given.pop(name) for name in ("dry_run", "reason", "yes")}
    if event_ids and any(given.values()):
        raise click.UsageError("Either event ids or a filter, not both.")
    return write, EventFilter(event_ids=event_ids, **given, **more)


def _replay(chosen: EventFilter, *, dry_run: bool, reason: str | None, yes: bool) -> None:
    services = build_services(load_settings())
    why = "" if dry_run else require_reason(reason)
    found = count_events(chosen, database=services.database, clock=services.clock)
    if chosen.event_ids:
        _require_known(chosen.event_ids, services.database)
    click.echo(_described(found))
    if dry_run or not found.events:
        return
    if chosen.event_ids:
        with _audited(chosen, why, services) as say:
            done = replay_few(
                chosen, reason=why, database=services.database, queue=_queue(services), clock=services.clock
            )
            say(f"{done.replayed} of {done.counted} (replay {done.replay_id})")
        click.echo(f"Replayed {done.replayed} of {done.counted} (replay {done.replay_id}).")
        return
    confirm(f"Replay {found.events} events?", yes=yes)
    _replay_many(chosen, found, why, services)


def _replay_many(chosen: EventFilter, found: Count, reason: str, services: Services) -> None:
    queue = _queue(services)
    with (
        _audited(chosen, reason, services) as say,
        stop_by_signal() as stop,
        progress_bar(found.events, "Replaying") as advance,
    ):
        done = replay_many(
            chosen,
            found,
            reason=reason,
            database=services.database,
            queue=queue,
            clock=services.clock,
            progress=advance,
            stop=stop,
        )
        say(f"{done.replayed} of {done.counted} (replay {done.replay_id})")
    click.echo(f"Replayed {done.replayed:,} of {done.counted:,} (replay {done.replay_id}).")
    if done.stopped:
        click.echo("Stopped: the rest is as it was.", err=True)
        sys.exit(STOPPED)
    if done.replayed < done.counted:
        click.echo("Workers have taken the others meanwhile.", err=True)


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
            lookup.show_event(event_id, database=database)
        except NotFound:
            raise NotFound(f"event {event_id}") from None


def _database() -> Database:
    return Database(load_settings().database_url)
