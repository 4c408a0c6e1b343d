"""`onelane customers`: show users, compare them with Stripe, import existing Stripe customers, and erase users.

`show USER_ID` is one user on one page. `import FILE.csv` reads the columns user_id and customer_id: a bad row is
reported with its line and the others are imported; workers fetch those from Stripe next. Importing a file again changes
nothing. `erase USER_ID` removes what is personal about one user; after an interruption it is run again and continues.
"""

import csv
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click
import structlog

from app.cli.options import (
    as_json,
    bulk_write,
    confirm,
    limit,
    noted,
    open_services,
    progress_bar,
    require_reason,
    stop_by_signal,
    wait,
    wait_for_worker,
    why,
)
from app.cli.tables import show_one, show_outcome, show_page
from billing.checkout.context import Context
from billing.clock import SystemClock
from billing.coordination.jobs import SyncCustomers
from billing.coordination.queue import while_reachable
from billing.customers.customers import claim_customer
from billing.database import Database
from billing.errors import PermanentError
from billing.operators import lookup
from billing.operators.customer import show_customer
from billing.operators.erase import Found, count_holdings, erase_user
from billing.operators.erasure_store import Holdings
from billing.operators.sync_user import ask_for_sync, look_up_sync
from billing.process.logs import configure_logging
from billing.process.settings import load_settings
from billing.rules.ids import CUSTOMER, MAX_USER_ID, is_user_id
from billing.rules.words import in_number
from billing.services import build_services, places, require_stripe

log = structlog.get_logger(__name__)
COLUMNS = ("user_id", "customer_id")


@click.group()
def customers() -> None:
    """Users and their Stripe customers."""


@customers.command("show")
@click.argument("user_id")
@limit
@as_json
def show(user_id: str, limit: int, as_json: bool) -> None:
    """Show a user: access and why, subscriptions, and what happened, newest first."""
    services = open_services()
    shown = show_customer(
        user_id, database=services.database, catalog=services.catalog, clock=services.clock, limit=limit
    )
    show_page(shown, as_json=as_json)


@customers.command("sync")
@click.argument("user_id")
@why
@wait
@as_json
def sync(user_id: str, reason: str | None, wait_seconds: int, as_json: bool) -> None:
    """Have a worker compare a user with Stripe now, and correct what differs."""
    services = open_services()
    places: dict[str, Any] = {"database": services.database, "clock": services.clock}
    with noted(services.database, "customers sync", user_id, reason) as say:
        asked = ask_for_sync(user_id, **places)
        services.queue.send(SyncCustomers())
        found = wait_for_worker(
            SyncCustomers,
            partial(look_up_sync, asked, catalog=services.catalog, **places),
            lambda seen: bool(seen["synced"]),
            database=services.database,
            seconds=wait_seconds,
        )
        say(f"changes: {', '.join(found['changes']) or 'none'}" if found["synced"] else "asked for")
    show_one(found, as_json=as_json)
    if not found["synced"]:
        click.echo("It is not done yet: a worker, or the sweep, goes on with it.", err=True)
        sys.exit(1)


@customers.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@bulk_write
@as_json
def import_customers(file: Path, dry_run: bool, reason: str | None, yes: bool, as_json: bool) -> None:
    """Note the Stripe customers of existing users (CSV: user_id,customer_id)."""
    settings = load_settings()
    rows = list(_read(file))
    if not dry_run:
        require_reason(reason)
        confirm(f"Import {in_number(len(rows), 'row')} into {Database(settings.database_url).url!r}?", yes=yes)
    services = build_services(settings)
    database = services.database
    problems: list[dict[str, Any]] = []
    lines: dict[str, int] = {}  # of each id
    note = noted(database, "customers import", file.name, reason, dry_run=dry_run)
    done = 0
    with note as say, stop_by_signal() as stop, progress_bar(len(rows), "Importing") as advance:
        for line, user_id, customer_id in rows:
            if stop():
                break
            done += 1
            advance(1)
            problem = _problem(user_id, customer_id, lines) or _claim(user_id, customer_id, database, dry_run=dry_run)
            if problem:
                problems.append({"line": line, "problem": problem})
            else:
                lines[user_id] = lines[customer_id] = line
        say(f"{done - len(problems)} of {in_number(len(rows), 'row')}{', stopped' if done < len(rows) else ''}")
    good, stopped = done - len(problems), done < len(rows)
    if not as_json:
        for one in problems:
            click.echo(f"line {one['line']}: {one['problem']}", err=True)
    counted = {"rows": len(rows), "imported": good, "refused": problems, "stopped": stopped, "dry_run": dry_run}
    were = "would be" if dry_run else "was" if good == 1 else "were"
    show_outcome(counted, f"{good} of {in_number(len(rows), 'row')} {were} imported.", as_json=as_json)
    if not dry_run:
        while_reachable(services.queue).send(SyncCustomers())
        configure_logging(settings, process="cli", stream=sys.stderr)
        log.info("customers.imported", imported=good, refused=len(problems), reason=reason)
    if stopped:
        click.echo(f"Stopped after {in_number(done, 'row')}. Importing the file again goes on.", err=True)
    if problems or stopped:
        sys.exit(1)


@customers.command("erase")
@click.argument("user_id")
@click.option("--delete-at-stripe", is_flag=True, help="Delete their customer at Stripe too; it keeps the invoices.")
@bulk_write
@as_json
def erase(user_id: str, delete_at_stripe: bool, dry_run: bool, reason: str | None, yes: bool, as_json: bool) -> None:
    """Remove what is personal about a user, for good. Refused while a subscription of theirs is live."""
    settings = load_settings()
    services = build_services(settings)
    require_stripe(services, why="a user whom Stripe still bills is not erased.")
    ctx = Context(
        **places(services, in_background=True), locks=services.locks, wakeups=services.wakeups, reuse_seconds=0
    )
    given = None if dry_run else require_reason(reason)
    found = count_holdings(user_id, ctx, delete_at_stripe=delete_at_stripe)
    about = {
        "user_id": user_id,
        "customer_ids": list(found.customer_ids),
        "billed_by": list(found.live),
        "delete_at_stripe": delete_at_stripe,
        "dry_run": dry_run,
    }
    click.echo(f"{_counted(found.holdings)}; at Stripe: {', '.join(found.customer_ids) or 'no customer'}.", err=as_json)
    if given is None:
        would = _what_would_happen(found, delete_at_stripe=delete_at_stripe)
        show_outcome({**about, "found": found.holdings.as_dict()}, would, as_json=as_json)
        if found.live:
            sys.exit(1)
        return
    also = " and delete the customer at Stripe" if delete_at_stripe else ""
    confirm(f"Erase this user from {services.database.url!r}{also}? It cannot be undone.", yes=yes or bool(found.live))
    configure_logging(settings, process="cli", stream=sys.stderr)
    note = noted(services.database, "customers erase", user_id, given)
    with note as say, progress_bar(found.holdings.rows, "Erasing") as advance:
        removed = erase_user(user_id, ctx, reason=given, delete_at_stripe=delete_at_stripe, progress=advance)
        say(_counted(removed))
    show_outcome({**about, "erased": removed.as_dict()}, f"Erased: {_counted(removed)}.", as_json=as_json)


def _counted(holdings: Holdings) -> str:
    said = [in_number(number, kind.removesuffix("s"), kind) for kind, number in holdings.as_dict().items() if number]
    return ", ".join(said) or "nothing personal is kept"


def _what_would_happen(found: Found, *, delete_at_stripe: bool) -> str:
    if found.live:
        return f"It would be refused: still billed by {', '.join(found.live)}."
    return "All of it would be erased" + (", and the customer deleted at Stripe." if delete_at_stripe else ".")


def _read(file: Path) -> Iterator[tuple[int, str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:  # -sig: spreadsheets write a mark first
            table = csv.DictReader(text, strict=True)
            if missing := [name for name in COLUMNS if name not in (table.fieldnames or [])]:
                raise click.UsageError(f"{file} has no column {missing[0]}. Its first line must name {COLUMNS}.")
            for row in table:
                yield table.line_num, *((row[name] or "").strip() for name in COLUMNS)  # type: ignore[misc]  # two columns
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.UsageError(f"{file} cannot be read as CSV in UTF-8: {error}") from None


def _problem(user_id: str, customer_id: str, lines: dict[str, int]) -> str | None:
    if not is_user_id(user_id):
        return f"user_id must be 1 to {MAX_USER_ID} printable characters"
    if not CUSTOMER.fullmatch(customer_id):
        return "customer_id must look like cus_..."
    for value in (user_id, customer_id):
        if value in lines:
            return f"the same as in line {lines[value]}"
    return None


def _claim(user_id: str, customer_id: str, database: Database, *, dry_run: bool) -> str | None:
    if dry_run:
        return lookup.customer_problem(user_id, customer_id, database=database)
    try:
        claim_customer(user_id, customer_id, database=database, clock=SystemClock())
    except PermanentError as error:
        return error.sentence
    return None
