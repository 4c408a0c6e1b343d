"""`onelane audit list`: who changed what on the command line, why, and what came of it."""

import click

from app.cli.options import listed, open_ledger
from app.cli.tables import show_rows
from billing.operators.audit import list_audit
from billing.operators.listing import Wanted


@click.group()
def audit() -> None:
    """What people changed, who, and why."""


@audit.command("list")
@listed
def list_command(wanted: Wanted, as_json: bool) -> None:
    """List the newest writes. One without an outcome runs, or was killed."""
    show_rows(list_audit(wanted, database=open_ledger()), as_json=as_json, nothing="Nobody has changed anything.")
