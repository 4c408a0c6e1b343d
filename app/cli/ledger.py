"""`onelane db upgrade`, `checkouts`, `operations`: migrate the ledger, and show and end what buyers asked for."""

import sys
from functools import partial
from typing import Any

import click

from app.cli.options import (
    as_json,
    listed,
    noted,
    open_ledger,
    open_services,
    require_reason,
    wait,
    wait_for_worker,
    why,
)
from app.cli.tables import show_one, show_outcome, show_rows
from billing.clock import SYSTEM_CLOCK
from billing.coordination.jobs import WorkLane
from billing.database.migrations.compatibility import Fit
from billing.database.migrations.upgrade import find, upgrade
from billing.models import AttemptOutcome, CheckoutStatus, OperationStatus
from billing.operators import lookup
from billing.operators.audit import note_migration
from billing.operators.expire_checkout import begin_expiry, look_up_expiry
from billing.operators.listing import Wanted


@click.group()
def db() -> None:
    """The ledger's tables."""


@db.command("upgrade")
@why
@as_json
def db_upgrade(reason: str | None, as_json: bool) -> None:
    """Create or migrate the tables. Safe to repeat, and from several places at once."""
    changed: list[str | None] = []

    def note(connection: Any, before: str | None, after: str) -> None:
        note_migration(connection, before, after, reason=reason, clock=SYSTEM_CLOCK)
        changed.append(before)

    database = open_ledger()
    fit = upgrade(database, noted=note)
    version = find(database).version
    outcome = {"version": version, "before": changed[0] if changed else version, "fits": fit.value}
    sentence = "The ledger is up to date." if fit is Fit.CURRENT else f"The ledger is {fit}. Nothing was changed."
    show_outcome(outcome, sentence, as_json=as_json)


@click.group()
def checkouts() -> None:
    """Buyers' requests for a payment page."""


@checkouts.command("list")
@click.option("--status", type=click.Choice([status.value for status in CheckoutStatus]))
@listed
def list_checkouts(status: str | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest checkouts, each as its buyer sees it."""
    rows = lookup.list_checkouts(wanted, database=open_ledger(), clock=SYSTEM_CLOCK, status=status)
    show_rows(rows, as_json=as_json, nothing="No checkouts.")


@checkouts.command("show")
@click.argument("checkout_id")
@as_json
def show_checkout(checkout_id: str, as_json: bool) -> None:
    """Show one checkout (without its url, which is a secret)."""
    show_one(lookup.show_checkout(checkout_id, database=open_ledger(), clock=SYSTEM_CLOCK), as_json=as_json)


@checkouts.command("expire")
@click.argument("checkout_id")
@why
@wait
@as_json
def expire_checkout(checkout_id: str, reason: str | None, wait_seconds: int, as_json: bool) -> None:
    """End a buyer's open payment page, so that it cannot be paid any more.

    A worker does it, under the buyer's lock. A page that was paid meanwhile stays paid.
    """
    said, services = require_reason(reason), open_services()
    database = services.database
    with noted(database, "checkouts expire", checkout_id, said) as say:
        expiry = begin_expiry(checkout_id, database=database, queue=services.queue, clock=services.clock)
        outcome = wait_for_worker(
            WorkLane, partial(look_up_expiry, expiry, database=database), bool, database=database, seconds=wait_seconds
        )
        say(outcome.value if outcome else "asked for")
    row = {"checkout_id": checkout_id, "session_id": expiry.session_id, "outcome": outcome}
    sentences = {
        None: "It is being expired: nobody is given its address any more. A worker, or the sweep, ends it.",
        AttemptOutcome.COMPLETED: "It was paid meanwhile: nothing was expired, and the buyer has what they paid for.",
    }
    show_outcome(row, sentences.get(outcome, "Expired."), as_json=as_json)
    if outcome is None or outcome is AttemptOutcome.COMPLETED:
        sys.exit(1)


@click.group()
def operations() -> None:
    """Buyers' changes of their subscriptions: cancel, reactivate, switch, portal."""


@operations.command("list")
@click.option("--status", type=click.Choice([status.value for status in OperationStatus]))
@listed
def list_operations(status: str | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest operations."""
    rows = lookup.list_operations(wanted, database=open_ledger(), status=status)
    show_rows(rows, as_json=as_json, nothing="No operations.")
