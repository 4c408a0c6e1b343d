"""`onelane notifications`: the changes that the application is told: list, show, send again, try the receiver."""

import sys
from collections.abc import Sequence
from datetime import datetime

import click

from app.cli.options import Moment, as_json, bulk_write, confirm, limit, require_reason
from app.cli.tables import show_one, show_rows
from billing.coordination.jobs import Notify
from billing.notifications.senders import LogNotifier
from billing.operators.audit import audited
from billing.operators.notifications import (
    STATES,
    MessageFilter,
    count_messages,
    list_messages,
    resend,
    show_message,
    try_receiver,
)
from billing.process.settings import load_settings
from billing.services import Services, build_services

status = click.option("--status", type=click.Choice(STATES))
customer = click.option("--customer", "customer_id", help="Of one Stripe customer.")
since = click.option("--since", type=Moment(), help="Made since: 2026-06-01T12:00Z, or 36h ago.")


@click.group()
def notifications() -> None:
    """The changes that the application is told."""


@notifications.command("list")
@status
@customer
@since
@limit
@as_json
def list_command(
    status: str | None, customer_id: str | None, since: datetime | None, limit: int, as_json: bool
) -> None:
    """List the newest notifications."""
    chosen = MessageFilter(status=status, customer_id=customer_id, since=since)
    rows = list_messages(chosen, database=_services().database, limit=limit)
    show_rows(rows, as_json=as_json, nothing="No notifications.")


@notifications.command("show")
@click.argument("message_id")
@as_json
def show_command(message_id: str, as_json: bool) -> None:
    """Show one notification and what it says."""
    show_one(show_message(message_id, database=_services().database), as_json=as_json)


@notifications.command("resend")
@click.argument("message_ids", nargs=-1, metavar="[MESSAGE_ID]...")
@status
@customer
@since
@bulk_write
def resend_command(
    message_ids: Sequence[str],
    status: str | None,
    customer_id: str | None,
    since: datetime | None,
    dry_run: bool,
    reason: str | None,
    yes: bool,
) -> None:
    """Send notifications again: some by their ids, or many by a filter. They keep their ids and contents."""
    chosen = MessageFilter(message_ids, status, customer_id, since)
    if message_ids and chosen != MessageFilter(message_ids):
        raise click.UsageError("Either message ids or a filter, not both.")
    _resend(chosen, dry_run=dry_run, reason=reason, yes=yes)


@notifications.command("recover")
@click.option("--since", type=Moment(), required=True, help="Made since: 2026-06-01T12:00Z, or 36h ago.")
@bulk_write
def recover_command(since: datetime, dry_run: bool, reason: str | None, yes: bool) -> None:
    """Send again what was given up: after three days without an application that takes it."""
    _resend(MessageFilter(status="dead", since=since), dry_run=dry_run, reason=reason, yes=yes)


@notifications.command("test")
@as_json
def test_command(as_json: bool) -> None:
    """Send the application a signed message of the type `test`, and show what it answered."""
    services = _services()
    if isinstance(services.notifier, LogNotifier):
        raise click.UsageError("Neither APP_WEBHOOK_URL nor APP_HANDLERS is set: there is nobody to send it to.")
    tried = try_receiver(services.notifier, clock=services.clock)
    show_one(tried, as_json=as_json)
    if not tried["delivered"]:
        sys.exit(1)


def _resend(chosen: MessageFilter, *, dry_run: bool, reason: str | None, yes: bool) -> None:
    target = chosen.described()
    if target is None:
        raise click.UsageError("Say which: message ids, or --status, --customer, --since.")
    services = _services()
    why = "" if dry_run else require_reason(reason)
    count = count_messages(chosen, database=services.database)
    click.echo(f"{count:,} notifications.")
    if dry_run or not count:
        return
    confirm(f"Send {count:,} notifications again?", yes=yes or bool(chosen.message_ids))
    with audited(
        "notifications resend", target=target, reason=why, database=services.database, clock=services.clock
    ) as say:
        sent = resend(chosen, database=services.database, clock=services.clock)
        say(f"{sent} made due")
    if services.queue.trouble() is None:  # else the sweep finds them
        services.queue.send(Notify())
    click.echo(f"{sent:,} are due; workers send them now.")


def _services() -> Services:
    return build_services(load_settings())
