"""The sweep: everything that waits and that no message may be on its way for goes back on the queue.

It runs every 30 s, and any number of sweeps at once are harmless. A sweep changes nothing but the age of client keys. A
job says only "look at this row", and whoever looks claims the row by compare-and-set (LED-8).
"""

from dataclasses import asdict, dataclass

import structlog

from billing.checkout import lane_store
from billing.clock import Clock
from billing.coordination.jobs import (
    RemedyDuplicates,
    ReplayEvents,
    SyncCustomers,
    WorkEvents,
    WorkLane,
    WorkOperations,
)
from billing.coordination.queue import Queue
from billing.customers import due_syncs
from billing.database import Database
from billing.duplicates import store as duplicates_store
from billing.maintenance.replay_run import forgotten_runs
from billing.models import checkouts, operations
from billing.operations import store as operations_store
from billing.rules import idempotency
from billing.webhooks import claim

log = structlog.get_logger(__name__)

# 500: what workers get through between two sweeps; more messages would only wait in Redis instead of in SQL.
BATCH = 500


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What one sweep did."""

    events: bool  # some are due
    lanes: int  # jobs sent
    keys: int  # clients' Idempotency-Keys that reached their 24 h
    remedies: int = 0  # incidents whose remedy is due
    operations: int = 0  # lanes with a due operation
    customers: bool = False  # some were taken over and are due
    replays: int = 0  # that workers run, and whose message was lost


def sweep(*, database: Database, queue: Queue, clock: Clock, cancels_duplicates: bool = False) -> SweepReport:
    """Wake workers for what is due, and let old Idempotency-Keys go. Raises LedgerUnavailable.

    `cancels_duplicates`: whether DUPLICATE_POLICY wants open incidents looked at; a remedy that was begun is finished
    in any case.
    """
    now = clock.now()
    with database.read() as connection:
        events = claim.any_due(connection, now=now)
        lanes = lane_store.lanes_to_wake(connection, now=now, limit=BATCH)
        lanes_of_operations = operations_store.lanes_to_wake(connection, now=now, limit=BATCH)
        taken_over = due_syncs.any_due(connection, now=now)
        remedies = duplicates_store.due(connection, now=now, limit=BATCH, open_ones=cancels_duplicates)
        replays = forgotten_runs(connection, now=now)
    for row_id in lanes:  # lanes first: a buyer waits
        queue.send(WorkLane(row_id))
    for row_id in lanes_of_operations:
        queue.send(WorkOperations(row_id))
    if events:
        queue.send(WorkEvents())
    if taken_over:
        queue.send(SyncCustomers())
    for row_id in remedies:
        queue.send(RemedyDuplicates(row_id))
    for row_id in replays:
        queue.send(ReplayEvents(row_id))
    with database.write() as connection:
        keys = sum(idempotency.forget_keys(connection, table, now=now) for table in (checkouts, operations))
        operations_store.forget_addresses(connection, now=now)
    report = SweepReport(
        events=events,
        lanes=len(lanes),
        keys=keys,
        remedies=len(remedies),
        operations=len(lanes_of_operations),
        customers=taken_over,
        replays=len(replays),
    )
    log.info("sweep.finished", **asdict(report))
    return report
