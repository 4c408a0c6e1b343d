"""`onelane audit list`: who changed what on the command line, why, and what came of it."""

from datetime import datetime

import click

from app.cli.options import listed
from app.cli.tables import show_rows
from billing.operators.audit import list_audit
from billing.process.settings import load_settings
from billing.services import build_services


@click.group()
def audit() -> None:
    """What people changed, who, and why."""


@audit.command("list")
@listed
def list_command(customer_id: str | None, since: datetime | None, limit: int, as_json: bool) -> None:
    """List the newest writes. One without an outcome runs, or was killed."""
    database = build_services(load_settings()).database
    rows = list_audit(database=database, customer=customer_id, since=since, limit=limit)
    show_rows(rows, as_json=as_json, nothing="Nobody has changed anything.")
