"""`onelane report` and `onelane locks list`: counts of everything, and the lanes that are being worked."""

from datetime import datetime
from typing import Any

import click

from app.cli.options import as_json, limit
from app.cli.tables import show_one, show_rows
from billing.operators.report import list_lanes, summarize
from billing.process.settings import load_settings
from billing.services import build_services


@click.command()
@as_json
def report(as_json: bool) -> None:
    """Show counts and ages on one screen: events, checkouts, subscriptions, messages, incidents."""
    services = build_services(load_settings())
    summary = summarize(database=services.database, clock=services.clock)
    if not as_json:
        summary = {name: _line(value, summary["at"]) for name, value in summary.items()}
    show_one(summary, as_json=as_json)


@click.group()
def locks() -> None:
    """Lanes that are being worked."""


@locks.command("list")
@limit
@as_json
def list_locks(limit: int, as_json: bool) -> None:
    """List the lanes that are not at rest, and for how long their lock is still held."""
    services = build_services(load_settings())
    held = services.locks.held()
    if held is None:
        click.echo("Redis does not answer: who holds a lock is not known. Lanes need none to be safe.", err=True)
    rows = list_lanes(database=services.database, limit=limit, held=held or {})
    show_rows(rows, as_json=as_json, nothing="Every lane is at rest.")


def _line(value: Any, now: datetime) -> Any:
    """A subject's counts on one line; times as how long ago."""
    if value is None or value == {}:
        return "none"
    if not isinstance(value, dict):
        return value
    texts = {name.removesuffix("_at"): _ago(at, now) if name.endswith("_at") else at for name, at in value.items()}
    return ", ".join(f"{name.replace('_', ' ')} {text}" for name, text in texts.items() if text is not None) or "none"


def _ago(moment: datetime | None, now: datetime) -> str | None:
    if moment is None:
        return None
    seconds = max(0, round((now - moment).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit} ago"
    return f"{seconds} s ago"
