"""What commands share: options, the services, the audit log, asking, progress, stopping, and waiting for a worker."""

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime, timedelta
from functools import wraps
from types import FrameType
from typing import Any, TypeVar

import click

from billing.clock import SYSTEM_CLOCK
from billing.coordination.jobs import Job
from billing.database import Database
from billing.operators.audit import Note, audited
from billing.operators.listing import Wanted
from billing.operators.presence import takes
from billing.process.settings import load_settings
from billing.services import Services, build_services

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
LOOK_SECONDS = 0.3

as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
limit = click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000))
_SPANS = {"m": "minutes", "h": "hours", "d": "days"}


class Moment(click.ParamType[datetime]):
    """A time: `2026-06-01`, `2026-06-01T12:00Z`, or how long ago: `90m`, `36h`, `7d`. UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            if text[-1:] in _SPANS and text[:-1].isdecimal():
                return datetime.now(UTC) - timedelta(**{_SPANS[text[-1]]: int(text[:-1])})
            moment = datetime.fromisoformat(text)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is no time; write it like 2026-06-01T12:00Z or 36h", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


since = click.option("--since", type=Moment(), help="Not before: 2026-06-01T12:00Z, or 36h ago.")
customer = click.option("--customer", "customer_id", metavar="ID", help="Of one customer: the user's id, or cus_...")
why = click.option("--reason", help="Why; it is kept.")


def listed(command: Callable[..., None]) -> Callable[..., None]:
    """Add what every list takes: `--json`, and `--customer`, `--since` and `--limit`, by which rows are `wanted`."""

    @wraps(command)
    def run(*, customer_id: str | None, since: datetime | None, limit: int, **options: Any) -> None:
        command(wanted=Wanted(limit, customer_id, since), **options)

    for option in (as_json, limit, since, customer):
        run = option(run)
    return run


wait = click.option(
    "--wait",
    "wait_seconds",
    default=30,
    show_default=True,
    metavar="SECONDS",
    type=click.IntRange(0, 3600),
    help="How long to wait for a worker.",
)


def bulk_write(command: F) -> F:
    """Add `--dry-run`, `--reason` and `--yes` to a command that writes many rows."""
    command = click.option("--yes", is_flag=True, help="Do not ask.")(command)
    command = why(command)
    return click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")(command)


def open_services() -> Services:
    """The services, by the settings of this process. Raises ConfigurationError."""
    return build_services(load_settings())


def open_ledger() -> Database:
    """The ledger alone, for what needs neither a catalog nor Redis. Raises ConfigurationError."""
    return Database(load_settings().database_url)


def noted(
    database: Database, command: str, target: str | None, reason: str | None, *, dry_run: bool = False
) -> AbstractContextManager[Note]:
    """The audit log's row of this command, for as long as it works: see `billing/operators/audit.py`."""
    return audited(command, target=target, reason=reason, database=database, clock=SYSTEM_CLOCK, dry_run=dry_run)


def require_reason(reason: str | None) -> str:
    """The reason, stripped. Raises UsageError (exit code 2) where there is none."""
    if not reason or not reason.strip():
        raise click.UsageError("Say why with --reason.")
    return reason.strip()


def confirm(question: str, *, yes: bool) -> None:
    """Ask at the terminal, unless `yes`. Raises UsageError where there is no terminal, Abort on a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody is there to ask: add --yes.")
    click.confirm(question, abort=True, err=True)  # stdout may be JSON


@contextmanager
def progress_bar(length: int, label: str) -> Iterator[Callable[[int], None]]:
    """Show a bar on a terminal and nothing elsewhere; yields the function that advances it by so many."""
    with click.progressbar(length=length, label=label, file=sys.stderr, hidden=not sys.stderr.isatty()) as bar:
        yield bar.update


@contextmanager
def stop_by_signal() -> Iterator[Callable[[], bool]]:
    """Yield a function: was Ctrl-C or SIGTERM received? The first lets the batch finish; the second ends at once."""
    asked: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def no_worker(job: type[Job]) -> str:
    """The sentence that no worker takes such jobs, and how to start one."""
    return f"No worker takes the queue {job.queue}. Start one: onelane worker --queues {job.queue}"


def wait_for_worker(
    job: type[Job], look: Callable[[], T], done: Callable[[T], bool], *, database: Database, seconds: float
) -> T:
    """Look until it is done, at most so long or until Ctrl-C; what was seen last. Without a worker, look once."""
    found = look()
    if done(found) or not seconds:
        return found
    if not takes(database, job.queue):
        click.echo(no_worker(job), err=True)
        return found
    if sys.stderr.isatty():
        click.echo("A worker is on it. Ctrl-C ends the waiting, not the work.", err=True)
    deadline = time.monotonic() + seconds
    with stop_by_signal() as stop:
        while not done(found) and not stop() and time.monotonic() < deadline:
            time.sleep(LOOK_SECONDS)
            found = look()
    return found
