"""Reconciling: finds what Stripe never delivered, and compares the projection with Stripe (WHK-42 to WHK-50).

1 strays     list the account's open sessions; expire those that no live attempt owns
2 events     page /v1/events back to the mark less an hour; record what the ledger lacks as if it had been delivered
3 objects    only in a thorough run, such as past Stripe's 30 days: page the account's subscriptions, a hundred in a
             request, for unknown customers
4 customers  sync those who were not fetched for a day, and report what differed

The progress is a row. Each step commits its findings together with that row, and only while it holds the claim. So
another process continues at the same page after a kill. Every write is one that a delivery, a sync or a checkout makes,
too: done twice, it changes nothing.
"""

import uuid
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from prometheus_client import Counter

from billing.clock import Clock, iso
from billing.errors import LedgerUnavailable, OnelaneError
from billing.maintenance import reconcile_store, runs
from billing.maintenance.reconcile_customers import LEFT_OFF, compare_some, compared_to, list_objects
from billing.maintenance.reconcile_steps import COUNTS, Context, expire_strays, read_page, save
from billing.maintenance.runs import RECONCILE_ROW, Run
from billing.models import RunPhase
from billing.rules.backoff import Backoff, is_failure

log = structlog.get_logger(__name__)

FOUND = Counter("onelane_reconcile_found_total", "What reconciling found.", ["what"])

OVERLAP = timedelta(hours=1)  # Stripe may list an event later than younger ones
BEFORE_FIRST = timedelta(hours=3)  # `bound_at` is by our clock, which may be ahead of Stripe's
READABLE = timedelta(days=29)  # Stripe lists 30 days; one day for clocks and for the reading itself
TOO_OLD = READABLE + timedelta(hours=12)  # an interrupted run this old may have lost its cursor and its events
# 3 min: with GRACE and beat's minute, a lost event is found within five. Longer after a long run, ten times its length
# and at most an hour: reading takes at most a tenth of the time.
INTERVAL, LONGEST_INTERVAL, SHARE = timedelta(minutes=3), timedelta(hours=1), 10
BACKOFF = Backoff(timedelta(seconds=5), timedelta(minutes=5))
STEPS: Mapping[RunPhase, Callable[[Run, Context], Run]] = {
    RunPhase.STRAYS: expire_strays,
    RunPhase.EVENTS: read_page,
    RunPhase.OBJECTS: list_objects,
    RunPhase.CUSTOMERS: compare_some,
}


def is_due(row: Run, now: datetime) -> bool:
    """Whether a run is unfinished, or the next one is due."""
    if BACKOFF.seconds_left(row.next_attempt_at, now=now) > 0:
        return False
    if row.unfinished or row.finished_at is None or row.started_at is None:
        return True
    took = row.finished_at - row.started_at
    wait = min(max(INTERVAL, SHARE * took), LONGEST_INTERVAL)
    return not row.finished_at <= now < row.finished_at + wait  # an end in the future was another machine's clock


def reconcile(
    ctx: Context,
    *,
    since: datetime | None = None,
    thorough: bool = False,
    when_due: bool = False,
    stop: Callable[[], bool] = lambda: False,
    shown: Callable[[Run], None] = lambda _row: None,
) -> Run | None:
    """Begin a run, or continue an interrupted one, to its end or until `stop`; the row as it is then.

    `since` and `thorough` begin a new run: from that time, and with every subscription and customer. `shown` is
    called after each step. None when another process holds the run, or with `when_due` when it is not due. Raises
    LedgerUnavailable, StripeMisconfigured and Stripe's transient errors; the next run continues there.
    """
    if when_due:
        with ctx.database.read() as connection:
            if not is_due(runs.read(connection, RECONCILE_ROW), ctx.clock.now()):
                return None
    row = _claim(ctx)
    if row is None:
        return None
    begun = ctx.clock.now()
    try:
        if since is not None or thorough or not row.unfinished or _is_too_old(row, begun):
            row = _begin(row, ctx, since=since, thorough=thorough)
        while row.unfinished and not stop():
            row = STEPS[row.phase](row, ctx)
            shown(row)
        if not row.unfinished:
            _finish(row)
    except LedgerUnavailable:
        raise  # nothing can be written; the lease expires
    except OnelaneError as error:
        _note_failure(row, error, ctx)
        raise
    _let_go(row, ctx)
    return row


def begin_with_everybody(connection: sa.Connection, *, clock: Clock) -> None:
    """Make the next run compare every customer; a run in progress loses its claim (WHK-49).

    A thorough run that has not compared anyone yet is kept at its place. Its start moves to now, so that it also
    compares the customers who were fetched since it began.
    """
    row, now = runs.read(connection, RECONCILE_ROW), clock.now()
    early = row.thorough and row.phase in (RunPhase.STRAYS, RunPhase.EVENTS) and not _is_too_old(row, now)
    if early and runs.take_away(connection, row, started_at=now):
        return
    first = reconcile_store.bound_at(connection)
    runs.begin_anew(connection, RECONCILE_ROW, **_beginning(row, first, now, since=None, thorough=True))


# --- the run


def _claim(ctx: Context) -> Run | None:
    if ctx.dry:
        with ctx.database.read() as connection:  # a dry run takes no claim
            known = runs.read(connection, RECONCILE_ROW)
        return Run(RECONCILE_ROW, mark=known.mark)
    with ctx.database.write() as connection:
        return runs.claim(connection, RECONCILE_ROW, token=str(uuid.uuid4()), now=ctx.clock.now())


def _is_too_old(row: Run, now: datetime) -> bool:
    return row.since is None or row.since < now - TOO_OLD


def _begin(row: Run, ctx: Context, *, since: datetime | None, thorough: bool) -> Run:
    """From the mark less an hour; the first run begins when the ledger was bound."""
    with ctx.database.read() as connection:
        first = reconcile_store.bound_at(connection)
    return save(row, ctx, **_beginning(row, first, ctx.clock.now(), since=since, thorough=thorough))


def _beginning(
    row: Run, first: datetime | None, now: datetime, *, since: datetime | None, thorough: bool
) -> dict[str, Any]:
    """The values of a new run's row."""
    unread = row.mark - OVERLAP if row.mark else (first or now) - BEFORE_FIRST
    since = min(since or unread, unread)  # never later, or the mark would pass over unread events
    gap = since < now - READABLE
    if gap:
        FOUND.labels("gap").inc()
        log.error("reconcile.gap", since=iso(since), mark=iso(row.mark))
    report: dict[str, Any] = {"gap": gap, **dict.fromkeys(COUNTS, 0), "drift": [], LEFT_OFF: compared_to(row)}
    return {
        "phase": RunPhase.STRAYS,
        "cursor": None,
        "thorough": thorough or gap or (row.unfinished and row.thorough),  # its purpose is still to be fulfilled
        "report": report,
        "since": max(since, now - READABLE),
        "until": None,
        "started_at": now,
    }


def _finish(row: Run) -> None:
    counts = {name: row.report[name] for name in COUNTS}
    for name in ("found", "strays", "drifted"):
        FOUND.labels(name).inc(counts[name])
    log.info("reconcile.finished", gap=row.report["gap"], since=iso(row.since), **counts)


def _let_go(row: Run, ctx: Context) -> None:
    if not ctx.dry:
        with ctx.database.write() as connection:
            runs.let_go(connection, row, failures=0, next_attempt_at=None, error=None)


def _note_failure(row: Run, error: OnelaneError, ctx: Context) -> None:
    log.warning("reconcile.postponed", phase=row.phase.value, error=error.code, reason=error.sentence)
    if ctx.dry:
        return
    until = ctx.clock.now() + timedelta(seconds=BACKOFF.wait_seconds(row.failures, error))
    failures = row.failures + int(is_failure(error))
    with ctx.database.write() as connection:
        runs.let_go(connection, row, failures=failures, next_attempt_at=until, error=error.sentence)
