"""The sweep: everything that waits and that no message may be on its way for goes back on the queue.

It runs every 30 s, and any number of sweeps at once are harmless: a sweep changes nothing but the age of client
keys, a job says only "look at this row", and whoever looks claims the row by compare-and-set (LED-8).
"""

from dataclasses import dataclass

import structlog

from billing.checkout import lane_ledger
from billing.clock import Clock
from billing.database import Database
from billing.jobs import ProcessEvent, WorkLane
from billing.queue import Queue
from billing.webhooks import event_ledger

log = structlog.get_logger(__name__)

# 500: what workers get through between two sweeps; more messages would only wait in Redis instead of in SQL.
BATCH = 500


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did."""

    events: int  # jobs sent, one for each customer with due events
    lanes: int
    keys: int  # clients' Idempotency-Keys that reached their 24 h


def sweep(*, database: Database, queue: Queue, clock: Clock) -> SweepReport:
    """Wake workers for what is due, and let old Idempotency-Keys go. Raises LedgerUnavailable."""
    now = clock.now()
    with database.read() as connection:
        events = event_ledger.due(connection, now=now, limit=BATCH)
        lanes = lane_ledger.lanes_to_wake(connection, now=now, limit=BATCH)
    for row_id in lanes:  # lanes first: a buyer waits
        queue.send(WorkLane(row_id))
    for row_id in events:
        queue.send(ProcessEvent(row_id))
    with database.write() as connection:
        keys = lane_ledger.forget_keys(connection, now=now)
    report = SweepReport(events=len(events), lanes=len(lanes), keys=keys)
    log.info("sweep.finished", events=report.events, lanes=report.lanes, keys=report.keys)
    return report
