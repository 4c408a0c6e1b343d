"""`onelane notifications`: the changes that the application is told: list, show, send again, try the receiver."""

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

from app.cli.options import (
    Moment,
    as_json,
    bulk_write,
    confirm,
    customer,
    listed,
    noted,
    open_services,
    progress_bar,
    require_reason,
    since,
    stop_by_signal,
)
from app.cli.tables import show_one, show_outcome, show_page, show_rows, show_text
from billing.coordination.jobs import Notify
from billing.coordination.queue import while_reachable
from billing.errors import ConfigurationError
from billing.notifications.senders import LogNotifier
from billing.operators.listing import Wanted
from billing.operators.notifications import (
    STATES,
    MessageFilter,
    count_messages,
    list_messages,
    resend,
    show_message,
    try_receiver,
)
from billing.rules.words import in_number

status = click.option("--status", type=click.Choice(STATES))


@click.group()
def notifications() -> None:
    """The changes that the application is told."""


@notifications.command("list")
@status
@listed
def list_command(status: str | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest notifications."""
    chosen = MessageFilter(status=status, customer_id=wanted.customer, since=wanted.since)
    rows = list_messages(chosen, database=open_services().database, limit=wanted.limit)
    show_rows(rows, as_json=as_json, nothing="No notifications.")


@notifications.command("show")
@click.argument("message_id")
@as_json
def show_command(message_id: str, as_json: bool) -> None:
    """Show one notification, what it says, and its last tries: when, how long, and what was answered."""
    show_page(show_message(message_id, database=open_services().database), as_json=as_json)


@notifications.command("resend")
@click.argument("message_ids", nargs=-1, metavar="[MESSAGE_ID]...")
@status
@customer
@since
@bulk_write
@as_json
def resend_command(
    message_ids: Sequence[str],
    status: str | None,
    customer_id: str | None,
    since: datetime | None,
    **write: Any,
) -> None:
    """Send notifications again: some by their ids, or many by a filter. They keep their ids and contents."""
    chosen = MessageFilter(message_ids, status, customer_id, since)
    if message_ids and chosen != MessageFilter(message_ids):
        raise click.UsageError("Either message ids or a filter, not both.")
    _resend(chosen, "notifications resend", **write)


@notifications.command("recover")
@click.option("--since", type=Moment(), required=True, help="Made since: 2026-06-01T12:00Z, or 36h ago.")
@bulk_write
@as_json
def recover_command(since: datetime, **write: Any) -> None:
    """Send again what was given up: after three days without an application that takes it."""
    _resend(MessageFilter(status="dead", since=since), "notifications recover", **write)


@notifications.command("test")
@as_json
def test_command(as_json: bool) -> None:
    """Send the application a signed message of the type `test`, and show what it answered."""
    services = open_services()
    if isinstance(services.notifier, LogNotifier):
        raise ConfigurationError(
            "Nobody is told of changes. Set APP_WEBHOOK_URL and APP_WEBHOOK_SECRET, or APP_HANDLERS."
        )
    tried = try_receiver(services.notifier, clock=services.clock)
    show_one(tried, as_json=as_json)
    if not tried["delivered"]:
        sys.exit(1)
    if tried["status"] is None and not as_json:
        show_text(
            "\nNo handler is called for the type `test`: what one raises is in notifications list --status pending."
        )
    if not as_json:
        click.echo(
            "\nWhat waits is sent within the hour; at once:\nonelane notifications resend --status pending --reason ..."
        )


def _resend(
    chosen: MessageFilter, command: str, *, dry_run: bool, reason: str | None, yes: bool, as_json: bool
) -> None:
    target = chosen.described()
    if target is None:
        raise click.UsageError("Say which: message ids, or --status, --customer, --since.")
    services = open_services()
    why = "" if dry_run else require_reason(reason)
    count = count_messages(chosen, database=services.database)
    which = in_number(count, "notification")
    click.echo(f"{which}.", err=as_json)
    if dry_run or not count:
        _show(count, 0, dry_run=dry_run, as_json=as_json)
        return
    confirm(f"Send {which} again?", yes=yes or bool(chosen.message_ids))
    note = noted(services.database, command, target, why)
    with note as say, stop_by_signal() as stop, progress_bar(count, "Making due") as advance:
        sent = resend(chosen, database=services.database, clock=services.clock, progress=advance, stop=stop)
        say(f"{sent} of {count} made due")
    while_reachable(services.queue).send(Notify())
    _show(count, sent, dry_run=False, as_json=as_json)
    if sent < count:
        click.echo("Stopped, or others were faster: the rest is as it was.", err=True)
        sys.exit(1)


def _show(count: int, sent: int, *, dry_run: bool, as_json: bool) -> None:
    due = f"{in_number(sent, 'is', 'are')} due; workers send what is due now. See onelane notifications list."
    show_outcome({"counted": count, "made_due": sent, "dry_run": dry_run}, due if sent else "", as_json=as_json)
