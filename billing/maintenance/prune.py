"""Pruning: payloads go after RETENTION_DAYS, rows of finished events after RETENTION_ROWS_DAYS (LED-20 to LED-22).

The ledger is walked from its oldest row, a bounded piece in a transaction, with the place kept in the row of the
upkeep: killed at any point, the next one goes on there, and two at once let go of the same. What still has to be
worked keeps its payload; what is dead keeps its row, since a person has to look at it.
"""

import dataclasses
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import structlog

from billing.clock import Clock
from billing.database import Database
from billing.jobs import PRUNE_ROW
from billing.maintenance import prune_store, runs
from billing.maintenance.runs import Run
from billing.models import RunPhase

log = structlog.get_logger(__name__)

INTERVAL = timedelta(days=1)
PIECE = 1000  # rows looked at in one transaction: a few milliseconds, so that deliveries do not wait for it


def is_due(row: Run, now: datetime) -> bool:
    """Once a day, and at once what was interrupted."""
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
    """Begin at the oldest row, or go on where it was interrupted, to the end or until `stop`; the row as it is then.

    None when somebody is at it, or with `when_due` when it is not time yet. Raises LedgerUnavailable.
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
        report = {"payloads": 0, "rows": 0}
        row = dataclasses.replace(row, phase=RunPhase.PRUNING, cursor=None, report=report, started_at=begun)
    assert row.started_at is not None, "it has just begun"
    payloads_before = row.started_at - timedelta(days=payload_days)
    rows_before = row.started_at - timedelta(days=row_days)
    while row.unfinished and not stop():
        with database.write() as connection:
            piece = prune_store.prune_piece(
                connection,
                after=int(row.cursor or 0),
                limit=PIECE,
                payloads_before=payloads_before,
                rows_before=rows_before,
            )
            counts = {
                "payloads": row.report["payloads"] + piece.payloads,
                "rows": row.report["rows"] + piece.rows,
            }
            row = dataclasses.replace(row, report=counts, cursor=None if piece.last is None else str(piece.last))
            if piece.last is None:
                row = dataclasses.replace(row, phase=RunPhase.IDLE, finished_at=clock.now())
            values = {name: getattr(row, name) for name in ("phase", "cursor", "report", "started_at", "finished_at")}
            if not runs.save(connection, row, now=clock.now(), **values):
                return None  # another one has taken over, and lets go of the same
    if not row.unfinished:
        log.info("ledger.pruned", **row.report)
    with database.write() as connection:
        runs.let_go(connection, row)
    return row
