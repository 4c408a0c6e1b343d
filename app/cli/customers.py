"""`onelane customers import FILE.csv`: users who already have a Stripe customer, in bulk.

The file has the columns user_id and customer_id. Each row stands for itself: a bad one is reported with
its line and the others are imported. Importing a file again changes nothing.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import structlog

from app.cli.options import bulk_write, confirm, progress_bar, require_reason
from billing import reports
from billing.clock import SystemClock
from billing.customers import CUSTOMER_ID, claim_customer
from billing.database import Database
from billing.errors import PermanentError
from billing.logs import configure_logging
from billing.settings import load_settings

log = structlog.get_logger(__name__)
COLUMNS = ("user_id", "customer_id")
LONGEST_USER_ID = 200


@click.group()
def customers() -> None:
    """Users and their Stripe customers."""


@customers.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@bulk_write
def import_customers(file: Path, dry_run: bool, reason: str | None, yes: bool) -> None:
    """Note the Stripe customers of existing users (CSV: user_id,customer_id)."""
    settings = load_settings()
    rows = list(_read(file))
    if not dry_run:
        require_reason(reason)
        confirm(f"Import {len(rows)} rows into {Database(settings.database_url).url!r}?", yes=yes)
    database = Database(settings.database_url)
    problems: list[str] = []
    seen: dict[str, int] = {}
    with progress_bar(len(rows), "Importing") as bar:
        for line, user_id, customer_id in rows:
            bar.update(1)
            problem = _problem(user_id, customer_id, seen) or _claim(user_id, customer_id, database, dry_run=dry_run)
            if problem:
                problems.append(f"line {line}: {problem}")
            else:
                seen[user_id] = seen[customer_id] = line
    for problem in problems:
        click.echo(problem, err=True)
    good = len(rows) - len(problems)
    click.echo(f"{good} of {len(rows)} rows {'would be' if dry_run else 'were'} imported.")
    if not dry_run:
        configure_logging(settings, process="cli", stream=sys.stderr)
        log.info("customers.imported", imported=good, refused=len(problems), reason=reason)
    if problems:
        sys.exit(1)


def _read(file: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:  # -sig: spreadsheets write a mark first
            table = csv.DictReader(lines, strict=True)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or [])]:
                raise click.UsageError(f"{file} has no column {missing[0]}. Its first line must name {COLUMNS}.")
            for row in table:
                yield table.line_num, *((row[name] or "").strip() for name in COLUMNS)  # type: ignore[misc]  # two columns
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.UsageError(f"{file} cannot be read as CSV in UTF-8: {error}") from None


def _problem(user_id: str, customer_id: str, seen: dict[str, int]) -> str | None:
    if not user_id or len(user_id) > LONGEST_USER_ID or not user_id.isprintable():
        return f"user_id must be 1 to {LONGEST_USER_ID} printable characters"
    if not CUSTOMER_ID.fullmatch(customer_id):
        return "customer_id must look like cus_..."
    for value in (user_id, customer_id):
        if value in seen:
            return f"the same as in line {seen[value]}"
    return None


def _claim(user_id: str, customer_id: str, database: Database, *, dry_run: bool) -> str | None:
    if dry_run:
        return reports.customer_problem(user_id, customer_id, database=database)
    try:
        claim_customer(user_id, customer_id, database=database, clock=SystemClock())
    except PermanentError as error:
        return error.sentence
    return None
