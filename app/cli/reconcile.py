"""`onelane reconcile`: find what Stripe never delivered, now, and report it.

Beat does the same every few minutes. The command is for after an outage or a restored backup, or for a `--dry-run`.
After an interruption the next run continues there, whether it is this command's or a worker's.
"""

import sys
import time
from collections.abc import Callable
from datetime import datetime

import click
import structlog

from app.cli.options import Moment, as_json, bulk_write, noted, stop_by_signal
from app.cli.tables import show_one
from billing.clock import iso
from billing.errors import StripeUnclear, TransientError
from billing.maintenance.reconcile import reconcile
from billing.maintenance.reconcile_steps import Context
from billing.maintenance.runs import Run
from billing.process.logs import configure_logging
from billing.process.settings import load_settings
from billing.rules.words import in_number
from billing.services import Services, build_services, places, require_stripe

log = structlog.get_logger(__name__)

# 1 s to 30 s between tries, about a minute in all: a longer failure is an outage and is reported.
WAIT_SECONDS = (1, 2, 5, 10, 15, 30)
STOPPED = 1


@click.command("reconcile")
@click.option("--since", type=Moment(), help="Read again from then on: 2026-06-01T12:00Z, or 36h ago.")
@click.option(
    "--full",
    is_flag=True,
    help="List every subscription and compare every customer, not only those not looked at for a day.",
)
@bulk_write
@as_json
def reconcile_command(
    since: datetime | None, full: bool, dry_run: bool, reason: str | None, yes: bool, as_json: bool
) -> None:
    """Find what Stripe never delivered, and compare with Stripe.

    Changes nothing that Stripe does not say, so it asks only where somebody sits at a terminal.
    """
    settings = load_settings()
    services = build_services(settings)
    require_stripe(services, why="reconciling asks Stripe.")
    if not dry_run and not yes and sys.stdin.isatty():
        click.confirm(f"Reconcile {services.database.url!r} with Stripe?", abort=True, err=True)
    wanted = f"{'full' if full else 'ordinary'}, since {iso(since) or 'the mark'}"
    with noted(services.database, "reconcile", wanted, reason, dry_run=dry_run) as say, stop_by_signal() as stop:
        row = _run(services, since=since, full=full, dry=dry_run, stop=stop, progress=Progress())
        say(f"{in_number(row.report['found'], 'event')} found, {in_number(row.report['drifted'], 'customer')} differed")
    if as_json:
        about = {"since": iso(row.since), "until": iso(row.until), "mark": iso(row.mark)}
        show_one({**about, "dry_run": dry_run, "finished": not row.unfinished, **row.report}, as_json=True)
    else:
        _show(row, dry_run=dry_run)
    if not dry_run:
        configure_logging(settings, process="cli", stream=sys.stderr)
        log.info("reconcile.ran", found=row.report["found"], drifted=row.report["drifted"], reason=reason)
    if row.unfinished:
        sys.exit(STOPPED)


def _run(
    services: Services,
    *,
    since: datetime | None,
    full: bool,
    dry: bool,
    stop: Callable[[], bool],
    progress: "Progress",
) -> Run:
    """Run to the end, through transient failures. Raises TransientError when they last, or another run is going."""
    ctx = Context(**places(services, in_background=True), locks=services.locks, dry=dry)
    for wait in (*WAIT_SECONDS, 0):
        try:
            row = reconcile(ctx, since=since, thorough=full, stop=stop, shown=progress.show)
        except StripeUnclear as error:
            if not wait or stop():
                raise
            if not dry:  # the run was begun: continue it
                since, full = None, False
            progress.say(f"{error.sentence} Again in {wait} s.")
            time.sleep(max(wait, min(error.retry_after or 0, 60)))
            continue
        finally:
            progress.end()
        if row is None:
            raise TransientError("A worker, or another one of these, is reconciling just now. Try again in a minute.")
        return row
    raise AssertionError("the last try returns or raises")


class Progress:
    """Shows the progress on one line of a terminal, with the rate of events and customers; nothing elsewhere."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def show(self, row: Run) -> None:
        if self._terminal and row.report:
            count = row.report["events"] + row.report["listed"] + row.report["compared"]
            rate = count / max(time.monotonic() - self._begun, 0.1)
            text = (
                f"{row.phase.value}: {in_number(row.report['events'], 'event')} read, {row.report['found']} found, "
                f"{in_number(row.report['compared'], 'customer')} compared, {row.report['drifted']} differed"
                f" · {rate:.0f}/s"
            )
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    def say(self, sentence: str) -> None:
        self.end()
        click.echo(sentence, err=True)

    def end(self) -> None:
        if self._terminal:
            click.echo("\r\033[K", nl=False, err=True)


def _show(row: Run, *, dry_run: bool) -> None:
    found = row.report
    would = "would be " if dry_run else ""
    if row.unfinished:
        click.echo("Stopped; the next run, or a worker, goes on from here.")
    if found["gap"]:
        click.echo("Events were missing for longer than Stripe keeps them: every customer was compared instead.")
    never = in_number(found["found"], "was", "were")
    click.echo(f"{in_number(found['events'], 'event')} since {iso(row.since)}, of which {never} never delivered.")
    if found["found"] and not dry_run:
        click.echo("What was found is recorded, and workers are on it.")
    if found["strays"]:
        strays = in_number(found["strays"], "open session")
        click.echo(f"{strays} that no checkout owns {would}looked at, to be expired.")
    click.echo(f"{in_number(found['compared'], 'customer')} compared, of whom {found['drifted']} differed.")
    for drift in found["drift"]:
        click.echo(f"  {drift['customer_id']}: {', '.join(drift['fields'])}")
    if (others := found["drifted"] - len(found["drift"])) > 0:
        click.echo(f"  and {in_number(others, 'other')}; the log has each.")
    if found["failed"]:
        click.echo(f"{found['failed']} more could not be compared: Stripe refused. The log says why.", err=True)
