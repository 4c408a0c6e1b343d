"""Reconciling: what Stripe never delivered is found, and the projection is compared with Stripe (WHK-42 to WHK-50).

1 strays     list the account's open sessions, look at the customers of those that no live attempt owns
2 events     page /v1/events back to the mark less an hour; what the ledger lacks is recorded as if it had come
3 objects    only where every customer is compared, past the 30 days of Stripe's events for example: page the
             account's subscriptions, a hundred in a request, for customers of whom we never heard
4 customers  sync those who were not fetched for a day, and say what differed

How far it has come is a row; each step commits what it found together with that row, and only while the claim is
its own. So a killed one is taken up at its page, and of two at once one goes on. Nothing here writes another way
than a delivery, a sync or a checkout does: done twice, it changes nothing.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
import structlog
from prometheus_client import Counter

from billing.backoff import Backoff, is_failure
from billing.catalog import Catalog
from billing.clock import Clock
from billing.database import Database
from billing.errors import LedgerUnavailable, OnelaneError
from billing.jobs import RECONCILE_ROW
from billing.locks import Locks
from billing.maintenance import reconcile_store, runs
from billing.maintenance.reconcile_steps import COUNTS, LEFT_OFF, STEPS, Context, compared_to, save
from billing.maintenance.runs import Run
from billing.models import RunPhase
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.stripe_gateway.pace import Pace

log = structlog.get_logger(__name__)

FOUND = Counter("onelane_reconcile_found_total", "What reconciling found.", ["what"])

OVERLAP = timedelta(hours=1)  # events may show up in the list later than others that were created after them
BEFORE_FIRST = timedelta(hours=3)  # that time is by our clock, which may be ahead of Stripe's
READABLE = timedelta(days=29)  # Stripe lists 30 days; one for clocks and for the time that reading takes
TOO_OLD = READABLE + timedelta(hours=12)  # so late an interrupted run's place may be gone, and so its events
# 3 min, with GRACE and beat's minute: found within five. Ten times as long as the last one took, up to an hour: at
# most a tenth of the time is spent on reading.
INTERVAL, LONGEST_INTERVAL, SHARE = timedelta(minutes=3), timedelta(hours=1), 10
BACKOFF = Backoff(timedelta(seconds=5), timedelta(minutes=5))


def is_due(row: Run, now: datetime) -> bool:
    """Whether beat's reconciling has something to do: an unfinished run, or the next one."""
    if BACKOFF.seconds_left(row.next_attempt_at, now=now) > 0:
        return False
    if row.unfinished or row.finished_at is None or row.started_at is None:
        return True
    took = row.finished_at - row.started_at
    wait = min(max(INTERVAL, SHARE * took), LONGEST_INTERVAL)
    return not row.finished_at <= now < row.finished_at + wait  # an end in the future was another machine's clock


def reconcile(
    *,
    database: Database,
    stripe: StripeGateway,
    locks: Locks,
    queue: Queue,
    clock: Clock,
    catalog: Catalog,
    since: datetime | None = None,
    thorough: bool = False,
    dry: bool = False,
    when_due: bool = False,
    stop: Callable[[], bool] = lambda: False,
    looks_per_second: float = 10.0,
    shown: Callable[[Run], None] = lambda _row: None,
) -> Run | None:
    """Begin a run, or go on with the one that was interrupted, to its end or until `stop`; the row as it is then.

    `since` and `thorough` begin anew: from then, and with every subscription and customer. `dry` writes nothing. A look
    is a page or a customer, one to three calls. `shown` is called after each step. None when somebody else is at it, or
    with `when_due` when it is not time. Raises LedgerUnavailable, StripeMisconfigured, and what is transient of Stripe:
    the run goes on from there the next time.
    """
    if when_due:
        with database.read() as connection:
            if not is_due(runs.read(connection, RECONCILE_ROW), clock.now()):
                return None
    ctx = Context(database, stripe, locks, queue, clock, catalog, Pace(looks_per_second).wait, dry)
    row = _claim(ctx)
    if row is None:
        return None
    begun = clock.now()
    try:
        if since is not None or thorough or not row.unfinished or _is_too_old(row, begun):
            row = _begin(row, ctx, since=since, thorough=thorough)
        while row.unfinished and not stop():
            row = STEPS[row.phase](row, ctx)
            shown(row)
        if not row.unfinished:
            _finish(row)
    except LedgerUnavailable:
        raise  # nothing can be noted; the lease ends by itself
    except OnelaneError as error:
        _note_failure(row, error, ctx)
        raise
    _let_go(row, ctx)
    return row


def begin_with_everybody(connection: sa.Connection, *, clock: Clock) -> None:
    """Let the next run begin anew and compare every customer; whoever reconciles just now loses its claim (WHK-49).

    One that was begun for this and has not compared anybody yet does for this, too, from its place; only that it
    compares those as well who were fetched since it began, which whoever is at it would not know.
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
        with ctx.database.read() as connection:  # a look beside whoever is at it
            known = runs.read(connection, RECONCILE_ROW)
        return Run(RECONCILE_ROW, mark=known.mark)
    with ctx.database.write() as connection:
        return runs.claim(connection, RECONCILE_ROW, token=str(uuid.uuid4()), now=ctx.clock.now())


def _is_too_old(row: Run, now: datetime) -> bool:
    return row.since is None or row.since < now - TOO_OLD


def _begin(row: Run, ctx: Context, *, since: datetime | None, thorough: bool) -> Run:
    """From the mark less an hour. Before the first run nothing was missed that is older than the ledger itself."""
    with ctx.database.read() as connection:
        first = reconcile_store.bound_at(connection)
    return save(row, ctx, **_beginning(row, first, ctx.clock.now(), since=since, thorough=thorough))


def _beginning(
    row: Run, first: datetime | None, now: datetime, *, since: datetime | None, thorough: bool
) -> dict[str, Any]:
    """What the row of a run that begins holds."""
    unread = row.mark - OVERLAP if row.mark else (first or now) - BEFORE_FIRST
    since = min(since or unread, unread)  # never later: what lies between would be taken for read
    gap = since < now - READABLE
    if gap:
        FOUND.labels("gap").inc()
        log.error("reconcile.gap", since=since.isoformat(), mark=row.mark and row.mark.isoformat())
    report: dict[str, Any] = {"gap": gap, **dict.fromkeys(COUNTS, 0), "drift": [], LEFT_OFF: compared_to(row)}
    return {
        "phase": RunPhase.STRAYS,
        "cursor": None,
        "thorough": thorough or gap or (row.unfinished and row.thorough),  # what that one was for is still to be done
        "report": report,
        "since": max(since, now - READABLE),
        "until": None,
        "started_at": now,
    }


def _finish(row: Run) -> None:
    counts = {what: row.report[what] for what in COUNTS}
    for what in ("found", "strays", "drifted"):
        FOUND.labels(what).inc(counts[what])
    log.info("reconcile.finished", gap=row.report["gap"], since=row.since and row.since.isoformat(), **counts)


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
