"""`onelane db upgrade`, `checkouts`, `incidents`: migrate the ledger, and show its rows."""

import click

from app.cli.options import as_json, limit, require_reason
from app.cli.tables import show_one, show_rows
from billing.clock import SystemClock
from billing.database import Database
from billing.database.migrations.compatibility import Fit
from billing.database.migrations.upgrade import upgrade
from billing.models import CheckoutStatus
from billing.operators import lookup
from billing.operators.audit import audited
from billing.operators.resolve_incident import resolve_incident
from billing.process.settings import load_settings


@click.group()
def db() -> None:
    """The ledger's tables."""


@db.command("upgrade")
def db_upgrade() -> None:
    """Create or migrate the tables. Safe to repeat, and from several places at once."""
    fit = upgrade(_database())
    click.echo("The ledger is up to date." if fit is Fit.CURRENT else f"The ledger is {fit}. Nothing was changed.")


@click.group()
def checkouts() -> None:
    """Buyers' requests for a payment page."""


@checkouts.command("list")
@click.option("--status", type=click.Choice([status.value for status in CheckoutStatus]))
@click.option("--user", "user_id", help="Of one user.")
@limit
@as_json
def list_checkouts(status: str | None, user_id: str | None, limit: int, as_json: bool) -> None:
    """List the newest checkouts."""
    rows = lookup.list_checkouts(database=_database(), clock=SystemClock(), status=status, user_id=user_id, limit=limit)
    show_rows(rows, as_json=as_json, nothing="No checkouts.")


@checkouts.command("show")
@click.argument("checkout_id")
@as_json
def show_checkout(checkout_id: str, as_json: bool) -> None:
    """Show one checkout (without its url, which is a secret)."""
    show_one(lookup.show_checkout(checkout_id, database=_database(), clock=SystemClock()), as_json=as_json)


@click.group()
def incidents() -> None:
    """Incidents, which a person has to look at."""


@incidents.command("list")
@click.option("--all", "everything", is_flag=True, help="Resolved ones, too.")
@limit
@as_json
def list_incidents(everything: bool, limit: int, as_json: bool) -> None:
    """List the newest open incidents with their remedies."""
    rows = lookup.list_incidents(database=_database(), everything=everything, limit=limit)
    show_rows(rows, as_json=as_json, nothing="No incidents.")


@incidents.command("resolve")
@click.argument("incident_id", type=int)
@click.option("--reason", help="What was done; it is kept.")
def resolve(incident_id: int, reason: str | None) -> None:
    """Say that a person has finished what an incident asked for."""
    said = require_reason(reason)
    database, clock = _database(), SystemClock()
    with audited("incidents resolve", target=f"incident {incident_id}", reason=said, database=database, clock=clock):
        resolve_incident(incident_id, reason=said, database=database, clock=clock)
    click.echo(f"Incident {incident_id} is resolved.")


def _database() -> Database:
    return Database(load_settings().database_url)
