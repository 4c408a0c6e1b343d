"""`onelane report` and `onelane locks list`: counts of everything, and the lanes that are being worked."""

import sys
from datetime import datetime
from typing import Any

import click

from app.cli.options import as_json, listed, open_services
from app.cli.tables import show_one, show_rows, show_text
from billing.operators.listing import Wanted
from billing.operators.report import list_lanes, summarize
from billing.rules.words import in_short

NOTHING_WRONG = "All is well: every queue has a worker, and nothing has waited for long."
ONE_CUSTOMER = "About one customer: onelane customers show USER, or onelane find ID."


@click.command()
@click.option("--check", is_flag=True, help="End with 1 where something is wrong.")
@as_json
def report(check: bool, as_json: bool) -> None:
    """Say what is worst and what mends it, then show counts and ages on one screen."""
    services = open_services()
    summary = summarize(database=services.database, clock=services.clock, broker=services.queue.trouble())
    found = summary["troubles"]
    if as_json:
        show_one(summary, as_json=True)
    else:
        for trouble in summary.pop("troubles"):
            show_text(trouble["sentence"])
            click.echo(f"  {trouble['command']}")
        click.echo(f"{NOTHING_WRONG}\n{ONE_CUSTOMER}\n" if not found else "")
        summary |= {name: summary[name] or "ok" for name in ("ledger", "broker")}
        show_one({name: _line(value, summary["at"]) for name, value in summary.items()}, as_json=False)
    if check and found:
        sys.exit(1)


@click.group()
def locks() -> None:
    """Lanes that are being worked."""


@locks.command("list")
@listed
def list_locks(wanted: Wanted, as_json: bool) -> None:
    """List the lanes that are not at rest, since when, and for how long their lock is still held."""
    services = open_services()
    held = services.locks.held()
    if held is None:
        click.echo("Redis does not answer: who holds a lock is not known. Lanes need none to be safe.", err=True)
    rows = list_lanes(wanted, database=services.database, held=held or {})
    show_rows(rows, as_json=as_json, nothing="Every lane is at rest.")


def _line(value: Any, now: datetime) -> Any:
    """A subject's counts on one line; times as how long ago."""
    if value is None or value == {}:
        return "none"
    if not isinstance(value, dict):
        return value
    texts = {name.removesuffix("_at"): _ago(at, now) if name.endswith("_at") else at for name, at in value.items()}
    return (
        ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in texts.items() if text not in (None, ""))
        or "none"
    )


def _ago(moment: datetime | None, now: datetime) -> str | None:
    return None if moment is None else f"{in_short(now - moment)} ago"
