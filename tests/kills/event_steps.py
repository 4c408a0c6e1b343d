"""Where the web may die with a delivery in hand, and a worker with a customer's events: the hooks at each step.

Receiving: "line" (after: it waits for a batch), "record", the batch's transaction (commit: all is written, after:
committed and nobody answered), "wake" (before: all of the batch have their answers). Working: "claim", "fetch",
"write" (commit: all is written, after: committed, the message not acknowledged).
"""

import os
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

import billing.coordination.queue
from billing.clock import SystemClock
from billing.rules import lease
from billing.subscriptions import projection_store, sync
from billing.webhooks import group_commit, ingest, process
from billing.webhooks.claim import Batch
from billing.webhooks.envelope import NewEvent
from billing.webhooks.group_commit import Committed, GroupCommit
from tests.kills.arming import Now, always, around, trip


class Receiving(threading.local):
    """Whose deliveries this thread of the web is committing."""

    customers: tuple[str | None, ...] = ()


receiving = Receiving()


def arm_receiving() -> None:
    """Put a hook at each step of a batch of deliveries."""
    inner_commit = group_commit.commit

    def commit(database: Any, new: Sequence[NewEvent]) -> Any:
        receiving.customers = tuple(event.customer_id for event in new)
        outcomes = inner_commit(database, new)
        trip("record", "after", *receiving.customers)
        receiving.customers = ()
        return outcomes

    group_commit.commit = commit
    inner_submit = GroupCommit.submit

    def submit(self: GroupCommit, event: NewEvent) -> Any:
        future = inner_submit(self, event)
        trip("line", "after", event.customer_id)
        return future

    setattr(GroupCommit, "submit", submit)  # noqa: B010
    inner_after_commit = ingest.after_commit

    def after_commit(batch: Committed, *, queue: Any) -> None:
        trip("wake", "before", *(event.customer_id for event, _ in batch))
        inner_after_commit(batch, queue=queue)

    ingest.after_commit = after_commit

    def committing(_connection: sa.Connection) -> None:
        if receiving.customers:
            trip("record", "commit", *receiving.customers)

    def executing(connection: sa.Connection, _cursor: Any, statement: str, *_: Any) -> None:
        # In PostgreSQL the statement commits by itself.
        if connection.dialect.name != "sqlite" and statement.startswith("INSERT INTO events"):
            committing(connection)

    sa.event.listen(sa.Engine, "commit", committing)
    sa.event.listen(sa.Engine, "before_cursor_execute", executing)


def arm_processing() -> None:
    """Put a hook at each step of working a customer's events."""
    inner_work = process._work_batch

    def work_batch(batch: Batch, ctx: Any) -> None:
        Now.user = batch.customer_id
        try:
            trip("claim", "after")
            inner_work(batch, ctx)
            trip("write", "after")
        finally:
            Now.user = Now.committing = None

    process._work_batch = work_batch
    around(sync, "fetch", always("fetch"), always("fetch"))
    inner_advance = projection_store.advance

    def advance(*args: Any, **kwargs: Any) -> bool:
        Now.committing = "write"
        return inner_advance(*args, **kwargs)

    projection_store.advance = advance


def move_times(number: int) -> None:
    """Shorten what a test cannot wait for, and set this worker's clock, as the environment says."""
    if seconds := os.environ.get("KILLS_LEASE_SECONDS"):
        lease.LEASE = timedelta(seconds=float(seconds))
    if seconds := os.environ.get("KILLS_VISIBILITY_SECONDS"):
        options = billing.coordination.queue._redis_options
        short = {"visibility_timeout": float(seconds), "unacked_restore_interval": 1}
        billing.coordination.queue._redis_options = lambda *given: {**options(*given), **short}
    shifts = [float(hours) * 3600 for hours in os.environ.get("KILLS_CLOCKS_HOURS", "0").split(",")]
    shift, now = timedelta(seconds=shifts[number % len(shifts)]), SystemClock.now

    def shifted(self: SystemClock) -> datetime:
        return now(self) + shift

    setattr(SystemClock, "now", shifted)  # noqa: B010
