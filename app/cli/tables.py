"""How commands show what they read: a table for people that fits their terminal, JSON for programs."""

import json
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import click

from billing.clock import iso

GAP, INDENT = "  ", "    "


def show_rows(rows: Sequence[Mapping[str, Any]], *, as_json: bool, nothing: str) -> None:
    """Show a list: one JSON array; or aligned columns with a head.

    The columns that fit come first, and what does not fit stands below each row with its names.
    """
    if as_json:
        click.echo(json.dumps(rows, default=_plain, indent=2))
        return
    if not rows:
        click.echo(nothing)
        return
    flat = [_flat(row) for row in rows]
    names = list(dict.fromkeys(name for row in flat for name in row))
    widths = {name: max(len(name), *(len(_text(row.get(name))) for row in flat)) for name in names}
    fitting = _fitting(names, widths)
    for cells in ({name: name for name in fitting}, *flat):
        line = GAP.join(f"{_text(cells.get(name)):<{widths[name]}}" for name in fitting)
        for part in _wrapped(line.rstrip(), first="", then=""):  # the first column alone may be wider than they are
            click.echo(part)
        rest = [f"{name} {_text(cells[name])}" for name in names if name not in fitting and cells.get(name) is not None]
        for line in _wrapped(", ".join(rest), first=INDENT, then=INDENT):
            click.echo(line)


def show_one(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row: a JSON object, or a line for each name and value."""
    if as_json:
        click.echo(json.dumps(row, default=_plain, indent=2))
        return
    row = _flat(row)
    width = max(len(name) for name in row)
    for name, value in row.items():
        for line in _wrapped(_text(value), first=f"{name:<{width}}{GAP}", then=" " * width + GAP):
            click.echo(line)


def show_outcome(row: Mapping[str, Any], sentence: str, *, as_json: bool) -> None:
    """Show what a command did: a JSON object, or its sentence."""
    if as_json:
        show_one(row, as_json=True)
    elif sentence:
        click.echo(sentence)


def show_page(page: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one subject with its lists: a JSON object; or its values, then a table under the name of each list."""
    if as_json:
        click.echo(json.dumps(page, default=_plain, indent=2))
        return
    lists = {name: value for name, value in page.items() if isinstance(value, list)}
    if others := {name: value for name, value in page.items() if name not in lists}:
        show_one(others, as_json=False)
    for name, rows in lists.items():
        click.echo(f"\n{name.replace('_', ' ').upper()}")
        if rows and not isinstance(rows[0], Mapping):
            for one in rows:
                click.echo(_text(one))
        else:
            show_rows(rows, as_json=False, nothing="none")


def show_side_by_side(rows: Sequence[Mapping[str, Any]], *, head: str) -> None:
    """Show few rows to compare: one column for each, under its `head`; one below the other where that does not fit."""
    flat = [_flat(row) for row in rows]
    names = [head, *(name for name in dict.fromkeys(name for row in flat for name in row) if name != head)]
    first = max(map(len, names), default=0)
    widths = [max(len(_text(row.get(name))) for name in names) for row in flat]
    if not rows or first + sum(widths) + len(GAP) * len(rows) > _columns():
        show_rows(rows, as_json=False, nothing="none")
        return
    for name in names:
        cells = [f"{_text(row.get(name)):<{width}}" for row, width in zip(flat, widths, strict=True)]
        click.echo(GAP.join([f"{name:<{first}}", *cells]).rstrip())


def show_text(sentence: str, *, first: str = "", colour: str | None = None) -> None:
    """Show a sentence after `first`, of which the first word is coloured: in lines that fit a terminal, else in one."""
    text = _text(sentence)
    lines = _wrapped(text, first=first, then=" " * len(first)) if sys.stdout.isatty() else [first + text]
    if colour:
        word = lines[0].split()[0]
        # click drops the colour where there is no terminal.
        lines[0] = click.style(word, fg=colour) + lines[0].removeprefix(word)
    click.echo("\n".join(lines))


def show_line(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Show one row of a stream, at once: a JSON object or its values, on one line."""
    line = json.dumps(row, default=_plain) if as_json else GAP.join(_text(value) for value in _flat(row).values())
    click.echo(line)
    sys.stdout.flush()


def _columns() -> int:
    return shutil.get_terminal_size().columns  # 80 where there is no terminal


def _fitting(names: Sequence[str], widths: Mapping[str, int]) -> list[str]:
    """The columns that fit beside each other; the first one in any case."""
    room, fitting = _columns(), list(names[:1])
    for name in names[1:]:
        if sum(widths[one] + len(GAP) for one in fitting) + widths[name] <= room:
            fitting.append(name)
    return fitting


def _wrapped(text: str, *, first: str, then: str) -> list[str]:
    """The text in lines that fit; an id is never broken, since it is copied."""
    if not text:
        return []
    return textwrap.wrap(
        text,
        _columns(),
        initial_indent=first,
        subsequent_indent=then,
        break_long_words=False,
        break_on_hyphens=False,
        drop_whitespace=True,
    )


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
