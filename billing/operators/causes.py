"""Causes that the ledger knows of: what Stripe refuses, what it does not deliver, and whether the two are compared.

Read by an index, or from a bounded number of the newest rows: the console's first page asks every 10 s.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.database import Database
from billing.errors import OPERATORS, LedgerUnavailable
from billing.maintenance import runs
from billing.models import CheckoutStatus, EventSource, OperationStatus, checkouts, events, marks, operations
from billing.operators.listing import Row, first_of
from billing.operators.readiness import free_megabytes, try_to_write
from billing.process.marks import KEY_REFUSED, KEY_TAKEN

LATELY = timedelta(hours=1)
LOOKED_AT = 1000  # events, the newest: some milliseconds
# One run of reconciling finds what a short outage lost. What two runs so far apart find is not delivered at all.
APART = timedelta(minutes=10)
FULL_MEGABYTES = 200  # SQLite needs room for its WAL, and for a vacuum


def read_causes(connection: sa.Connection, *, now: datetime) -> Row:
    """By subject; None, or without times, where all is well."""
    run = runs.read(connection, runs.RECONCILE_ROW)
    return {
        "key_refused": _key_refused(connection),
        "checkouts_refused": _checkouts_refused(connection, now),
        "undelivered": _undelivered(connection, now),
        "reconcile": {"age_seconds": runs.mark_age_seconds(connection, now), "error": run.error},
        "operations": {"oldest_pending_at": _oldest_operation(connection)},
    }


def why_nothing_is_written(database: Database) -> str | None:
    """Why the ledger takes no writes, or soon will not; None where it does. It has been read just now."""
    try:
        try_to_write(database)
    except LedgerUnavailable as error:
        return error.for_operator
    free = free_megabytes(database)
    if free is None or free >= FULL_MEGABYTES:
        return None
    return f"Only {free} MB are free where it is (DATABASE_URL). Make room."


def _key_refused(connection: sa.Connection) -> Row | None:
    """The last refusal, unless Stripe did since what it had refused."""
    refused = first_of(connection, sa.select(marks.c.why, marks.c.last_at).where(marks.c.name == KEY_REFUSED))
    taken_at = connection.scalar(sa.select(marks.c.last_at).where(marks.c.name == KEY_TAKEN))
    return refused if refused and (taken_at is None or taken_at < refused["last_at"]) else None


def _checkouts_refused(connection: sa.Connection, now: datetime) -> Row | None:
    """Of the last hour: what Stripe refused for a reason that operators mend, where the plan was not sold since."""
    lately = checkouts.c.arrived_at >= now - LATELY
    failed = sa.select(checkouts.c.plan, checkouts.c.arrived_at, checkouts.c.error).where(
        lately, checkouts.c.status == CheckoutStatus.FAILED
    )
    newest_first = failed.order_by(checkouts.c.arrived_at.desc()).limit(LOOKED_AT)
    rows = [row for row in connection.execute(newest_first) if row.error and row.error.get(OPERATORS)]
    still = []
    for plan in dict.fromkeys(row.plan for row in rows):
        theirs = [row for row in rows if row.plan == plan]
        sold = sa.select(sa.literal(1)).where(
            checkouts.c.arrived_at > theirs[0].arrived_at,
            checkouts.c.status == CheckoutStatus.OPEN,  # as stored: it was given a page, whatever became of that
            checkouts.c.plan == plan,
        )
        if connection.scalar(sold.limit(1)) is None:
            still += theirs
    if not still:
        return None
    last = max(still, key=lambda row: row.arrived_at)
    return {"count": len(still), "last_at": last.arrived_at, "error": last.error[OPERATORS]}


def _undelivered(connection: sa.Connection, now: datetime) -> Row | None:
    """Types of events that reconciling found more than once in a day, APART, and of which none was delivered since."""
    newest = sa.select(events.c.type, events.c.source, events.c.received_at).order_by(events.c.id.desc())
    found: dict[str, list[datetime]] = {}
    delivered: set[str] = set()
    for type_, source, at in connection.execute(newest.limit(LOOKED_AT)):
        if source != EventSource.RECONCILED:
            delivered.add(type_)
        elif at >= now - timedelta(days=1):
            if type_ not in delivered:
                found.setdefault(type_, []).append(at)
            if not delivered:
                found.setdefault("", []).append(at)  # of any type: nothing was delivered since
    missed = {type_: times for type_, times in found.items() if times and times[0] - times[-1] >= APART}
    if not missed:
        return None
    times = missed.get("") or [at for each in missed.values() for at in each]
    return {"types": "" if "" in missed else ", ".join(sorted(missed)), "events": len(times), "since_at": min(times)}


def _oldest_operation(connection: sa.Connection) -> datetime | None:
    pending = operations.c.status == OperationStatus.PENDING
    moment: datetime | None = connection.scalar(sa.select(sa.func.min(operations.c.arrived_at)).where(pending))
    return moment
