"""`onelane events` and `onelane dead`: list, show, follow and replay what Stripe delivered."""

from typing import Any

import click

from app.cli.options import (
    Moment,
    as_json,
    bulk_write,
    customer,
    listed,
    noted,
    open_ledger,
    since,
    stop_by_signal,
    wait,
)
from app.cli.replaying import parted, replay
from app.cli.replays import failures, replays, stop
from app.cli.tables import show_line, show_page, show_rows
from billing.maintenance.replay_store import REPLAYABLE, EventFilter
from billing.models import EventStatus
from billing.operators.events import list_events, show_event
from billing.operators.listing import Row, Wanted
from billing.operators.tail import follow_events

types = click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
type_ = click.option("--type", "type_", help="Of Stripe's type; customer.subscription.* for a family.")
until = click.option("--until", type=Moment(), help="Received before.")


@click.group()
def events() -> None:
    """What Stripe delivered."""


@events.command("list")
@click.option("--status", type=click.Choice([status.value for status in EventStatus]))
@type_
@listed
def list_command(status: str | None, type_: str | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest events."""
    show_rows(_list(status, type_, wanted), as_json=as_json, nothing="No events.")


@events.command("show")
@click.argument("event_id")
@click.option("--payload", is_flag=True, help="With what Stripe sent (personal data).")
@as_json
def show_command(event_id: str, payload: bool, as_json: bool) -> None:
    """Show one event, its attempts (when, how long, why one failed), and when it was replayed and why."""
    database = open_ledger()
    # To look at it without its payload is no use of what is personal.
    with noted(database, "events show --payload", event_id, None, dry_run=not payload):
        shown = show_event(event_id, database=database, payload=payload)
    show_page(shown, as_json=as_json)


@events.command("tail")
@click.option("--lines", default=10, show_default=True, type=click.IntRange(0, 1000), help="Of those that are there.")
@as_json
def tail_events(lines: int, as_json: bool) -> None:
    """Follow the events as they come, one line for each (--json: one object for each). Ctrl-C ends it."""
    with stop_by_signal() as stop:
        for row in follow_events(database=open_ledger(), lines=lines, stop=stop):
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
    write, chosen = parted(event_ids, given, status=EventStatus(status) if status else None)
    if not chosen.described():
        raise click.UsageError("Say which: event ids, or --type, --customer, --status, --since, --until.")
    replay(chosen, **write)


for command in (failures, replays, stop):
    events.add_command(command)


@click.group()
def dead() -> None:
    """Events that were given up after their attempts."""


@dead.command("list")
@type_
@listed
def list_dead(type_: str | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest dead events, each with its error."""
    rows = _list(EventStatus.DEAD, type_, wanted)
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
    write, chosen = parted(event_ids, given, status=EventStatus.DEAD)
    if everything == (len(chosen.described()) > 1):
        raise click.UsageError("Say which: event ids; or --type, --customer, --since, --until; or --all.")
    replay(chosen, **write)


def _list(status: str | None, type_: str | None, wanted: Wanted) -> list[Row]:
    chosen = EventFilter(
        types=(type_,) if type_ else (),
        customer_id=wanted.customer,
        status=EventStatus(status) if status else None,
        since=wanted.since,
    )
    return list_events(chosen, database=open_ledger(), limit=wanted.limit)
