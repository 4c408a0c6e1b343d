"""How commands show what they read: a table for people, JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from billing.clock import iso


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str) -> None:
    """Show a list: one JSON array, or aligned columns with a head."""
    if as_json:
        click.echo(json.dumps(rows, default=_plain, indent=2))
        return
    if not rows:
        click.echo(nothing)
        return
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    for line in cells:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row: a JSON object, or a line for each name and value."""
    if as_json:
        click.echo(json.dumps(row, default=_plain, indent=2))
        return
    width = max(len(name) for name in row)
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {_text(value)}")


def show_line(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row of a stream, at once: a JSON object or its values, on one line."""
    line = json.dumps(row, default=_plain) if as_json else "  ".join(_text(value) for value in row.values())
    click.echo(line)
    sys.stdout.flush()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    text = json.dumps(value, default=_plain) if isinstance(value, dict | list) else str(value)
    # A stranger's text must not control the terminal or begin a line.
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return str(value)
