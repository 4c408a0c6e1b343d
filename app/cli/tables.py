"""How commands show what they read: a table for people, JSON for programs."""

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from billing.clock import iso


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str) -> None:
    """Show a list: one JSON array; or aligned columns with a head, and where they do not fit, a block for each row."""
    if as_json:
        click.echo(json.dumps(rows, default=_plain, indent=2))
        return
    if not rows:
        click.echo(nothing)
        return
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    cells = [names, *([_text(row.get(name)) for name in names] for row in flat)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    if sum(widths) + 2 * len(widths) - 2 > shutil.get_terminal_size().columns:  # 80 where there is no terminal
        for number, row in enumerate(flat):
            if number:
                click.echo()
            show_one(row, as_json=False)
        return
    for line in cells:
        click.echo("  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row: a JSON object, or a line for each name and value."""
    if as_json:
        click.echo(json.dumps(row, default=_plain, indent=2))
        return
    row = _flat(row)
    width = max(len(name) for name in row)
    for name, value in row.items():
        click.echo(f"{name:<{width}}  {_text(value)}")


def show_page(page: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one subject with its lists: a JSON object; or its values, then a table under the name of each list."""
    if as_json:
        click.echo(json.dumps(page, default=_plain, indent=2))
        return
    lists = {name: value for name, value in page.items() if isinstance(value, list)}
    show_one({name: value for name, value in page.items() if name not in lists}, as_json=False)
    for name, rows in lists.items():
        click.echo(f"\n{name.upper()}")
        show_rows(rows, as_json=False, nothing="none")


def _flat(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its inner values beside its own (`access.reason`), so that no cell is JSON."""
    flat: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}.{inner}": each for inner, each in _flat(value).items()}
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            flat |= _flat({f"{name}.{number}": each for number, each in enumerate(value, 1)})
        elif isinstance(value, list):
            flat[name] = ", ".join(str(each) for each in value) or None
        else:
            flat[name] = value
    return flat


def show_line(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row of a stream, at once: a JSON object or its values, on one line."""
    line = json.dumps(row, default=_plain) if as_json else "  ".join(_text(value) for value in _flat(row).values())
    click.echo(line)
    sys.stdout.flush()


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    text = str(value)
    # A stranger's text must not control the terminal or begin a line.
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return str(value)
