"""Pruning: payloads and bodies go after RETENTION_DAYS, rows of finished events after RETENTION_ROWS_DAYS.

First what is not needed of ended checkouts (LED-25), by their arrival; then events (LED-20 to LED-22), by their number.
Pruning walks the ledger from its oldest row, one batch in a transaction, and keeps its place in the run's row. So the
next one continues there after a kill, and two at once delete the same rows. A pending event keeps its payload. A dead
event keeps its row, since a person has to look at it.
"""

import dataclasses
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
import structlog

from billing.clock import Clock
from billing.database import Database
from billing.maintenance import ended_checkouts, runs
from billing.maintenance.ended_checkouts import BEGINNING
from billing.maintenance.runs import PRUNE_ROW, Run
from billing.models import EventStatus, RunPhase, events

log = structlog.get_logger(__name__)

INTERVAL = timedelta(days=1)
BATCH = 1000  # rows read in one transaction: a few milliseconds, so that deliveries do not wait for it
_FINISHED = (EventStatus.DONE, EventStatus.IGNORED, EventStatus.REJECTED)


def is_due(row: Run, now: datetime) -> bool:
    """Once a day; at once when a run was interrupted."""
    return row.unfinished or row.started_at is None or not row.started_at <= now < row.started_at + INTERVAL


def prune(
    *,
    database: Database,
    clock: Clock,
    payload_days: int,
    row_days: int,
    when_due: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> Run | None:
    """Begin a run, or continue an interrupted one, to its end or until `stop`; the row as it is then.

    None when another process holds it, or with `when_due` when it is not due. Raises LedgerUnavailable.
    """
    begun = clock.now()
    if when_due:
        with database.read() as connection:
            if not is_due(runs.read(connection, PRUNE_ROW), begun):
                return None
    with database.write() as connection:
        row = runs.claim(connection, PRUNE_ROW, token=str(uuid.uuid4()), now=begun)
    if row is None:
        return None
    if not row.unfinished or row.started_at is None:
        report = {"payloads": 0, "rows": 0, "checkouts": 0}
        row = dataclasses.replace(row, phase=RunPhase.PRUNING, cursor=None, report=report, started_at=begun)
    assert row.started_at is not None, "it has just begun"
    payloads_before = row.started_at - timedelta(days=payload_days)
    rows_before = row.started_at - timedelta(days=row_days)
    while row.unfinished and not stop():
        with database.write() as connection:
            since = row.since or BEGINNING  # up to which checkouts were pruned, by whichever run
            if since < payloads_before:
                pruned = ended_checkouts.prune_some(connection, since=since, before=payloads_before, limit=BATCH)
                row = dataclasses.replace(row, since=pruned.until, report=_added(row, checkouts=pruned.checkouts))
            else:
                batch = _prune_batch(
                    connection,
                    after=int(row.cursor or 0),
                    limit=BATCH,
                    payloads_before=payloads_before,
                    rows_before=rows_before,
                )
                row = dataclasses.replace(
                    row,
                    report=_added(row, payloads=batch.payloads, rows=batch.rows),
                    cursor=None if batch.last is None else str(batch.last),
                )
                if batch.last is None:
                    row = dataclasses.replace(row, phase=RunPhase.IDLE, finished_at=clock.now())
            names = ("phase", "cursor", "report", "since", "started_at", "finished_at")
            values = {name: getattr(row, name) for name in names}
            if not runs.save(connection, row, now=clock.now(), **values):
                return None  # another process has taken over, and deletes the same rows
    if not row.unfinished:
        log.info("ledger.pruned", **row.report)
    with database.write() as connection:
        runs.let_go(connection, row)
    return row


def _added(row: Run, **counts: int) -> dict[str, int]:
    return {**row.report, **{name: row.report.get(name, 0) + count for name, count in counts.items()}}


@dataclass(frozen=True, slots=True)
class Batch:
    """Deleted payloads and rows of one batch, and its last row's id; None when the next rows are too young."""

    payloads: int
    rows: int
    last: int | None


def _prune_batch(
    connection: sa.Connection, *, after: int, limit: int, payloads_before: datetime, rows_before: datetime
) -> Batch:
    """Read the next rows by id, which is nearly by age, and delete what is too old in them."""
    following = (
        sa.select(events.c.id, events.c.received_at).where(events.c.id > after).order_by(events.c.id).limit(limit)
    )
    rows = connection.execute(following).all()
    old = [row.id for row in rows if row.received_at < max(payloads_before, rows_before)]
    if not old:
        return Batch(0, 0, None)
    between = events.c.id.between(old[0], old[-1])
    gone = sa.delete(events).where(between, events.c.received_at < rows_before, events.c.status.in_(_FINISHED))
    deleted = connection.execute(gone).rowcount
    kept = sa.update(events).where(
        between,
        events.c.received_at < payloads_before,
        events.c.payload.is_not(None),
        events.c.status != EventStatus.PENDING,
    )
    emptied = connection.execute(kept.values(payload=None)).rowcount
    return Batch(payloads=emptied, rows=deleted, last=rows[-1].id if len(rows) == limit else None)
