"""`onelane incidents`: list, show and end what a person has to look at."""

import sys
from typing import Any

import click

from app.cli.options import as_json, confirm, listed, noted, open_services, require_reason, wait, wait_for_worker, why
from app.cli.tables import show_outcome, show_page, show_rows, show_side_by_side
from billing.coordination.jobs import RemedyDuplicates
from billing.operators import lookup
from billing.operators.incident import keep_one, resolve_incident, show_incident
from billing.operators.listing import Wanted
from billing.rules.words import in_number
from billing.services import Services

# What tells two subscriptions apart; two of Stripe's ids beside these names just fit into 80 columns.
COMPARED = (
    "id", "status", "plan", "quantity", "costs", "created_at", "current_period_end", "cancel_at", "payment",
    "disputed", "refunded", "pause_collection",
)  # fmt: skip


@click.group()
def incidents() -> None:
    """Incidents, which a person has to look at."""


@incidents.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones, too.")
@listed
def list_incidents(everything: bool, wanted: Wanted, as_json: bool) -> None:
    """List the newest open incidents with their remedies."""
    rows = lookup.list_incidents(wanted, database=open_services().database, everything=everything)
    show_rows(rows, as_json=as_json, nothing="No incidents.")


@incidents.command("show")
@click.argument("incident_id", type=int)
@as_json
def show(incident_id: int, as_json: bool) -> None:
    """Show an incident: its subscriptions side by side, what was done about them, and the commands that end it."""
    services = open_services()
    shown = show_incident(incident_id, database=services.database, catalog=services.catalog)
    if as_json:
        show_page(shown, as_json=True)
        return
    subscriptions = shown.pop("subscriptions")
    show_page({name: value for name, value in shown.items() if not isinstance(value, list)}, as_json=False)
    click.echo("\nSUBSCRIPTIONS, as last fetched")
    show_side_by_side([{name: row.get(name) for name in COMPARED} for row in subscriptions], head="id")
    for row in subscriptions:
        click.echo(row["dashboard"])
    show_page({name: value for name, value in shown.items() if isinstance(value, list)}, as_json=False)


@incidents.command("resolve")
@click.argument("incident_id", type=int)
@click.option("--keep", "kept_id", metavar="sub_...", help="Have all others canceled and refunded.")
@why
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@wait
@as_json
def resolve(
    incident_id: int,
    kept_id: str | None,
    reason: str | None,
    dry_run: bool,
    yes: bool,
    wait_seconds: int,
    as_json: bool,
) -> None:
    """End an incident: by hand what it asked for was done; or with --keep a worker does it.

    Of several subscriptions --keep names the one that stays. The others are canceled now, and what they took goes back.
    """
    services = open_services()
    if kept_id is None:
        said = require_reason(reason)
        with noted(services.database, "incidents resolve", f"incident {incident_id}", said):
            resolve_incident(incident_id, reason=said, database=services.database, clock=services.clock)
        show_outcome({"id": incident_id, "resolved": True}, f"Incident {incident_id} is resolved.", as_json=as_json)
        return
    places: dict[str, Any] = {"database": services.database, "queue": services.queue, "clock": services.clock}
    said = "" if dry_run else require_reason(reason)
    others = keep_one(incident_id, kept_id, dry_run=True, **places)
    if not as_json:
        click.echo(f"{kept_id} stays. To be canceled at once, with what they took given back: {', '.join(others)}.")
    if dry_run:
        show_outcome({"id": incident_id, "keep": kept_id, "cancel": others, "dry_run": True}, "", as_json=as_json)
        return
    confirm(f"Cancel {in_number(len(others), 'subscription')} at Stripe, for good?", yes=yes)
    target = f"incident {incident_id}: keep {kept_id}, cancel {', '.join(others)}"
    with noted(services.database, "incidents resolve", target, said) as say:
        keep_one(incident_id, kept_id, **places)
        shown = _until_over(incident_id, services, wait_seconds)
        say("resolved" if shown["resolved_at"] else f"asked for; {shown['reason'] or 'a worker is on it'}")
    over = f"Incident {incident_id} is resolved: one is live, and the money of the others is back."
    waits = f"It is not over yet: {shown['reason'] or 'a worker is on it'} See onelane incidents show {incident_id}"
    outcome = {"keep": kept_id, "cancel": others, **shown}
    show_outcome(outcome, over if shown["resolved_at"] else waits, as_json=as_json)
    if not shown["resolved_at"]:
        sys.exit(1)


def _until_over(incident_id: int, services: Services, seconds: int) -> dict[str, Any]:
    def look() -> dict[str, Any]:
        return show_incident(incident_id, database=services.database, catalog=services.catalog)

    def is_over(shown: dict[str, Any]) -> bool:
        return shown["resolved_at"] is not None

    return wait_for_worker(RemedyDuplicates, look, is_over, database=services.database, seconds=seconds)
