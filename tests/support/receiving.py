"""Receiving a delivery in the caller's own thread: the same steps, with a transaction and a wake-up of its own."""

from collections.abc import Sequence

from billing.clock import Clock
from billing.coordination.queue import Queue
from billing.database import Database
from billing.webhooks.group_commit import commit
from billing.webhooks.ingest import after_commit, expect, prepare

MAX_BYTES = 256 * 1024  # of a delivery, in tests of the limit


def receive(
    body: bytes,
    header: str | None,
    *,
    secrets: Sequence[str],
    database: Database,
    queue: Queue,
    clock: Clock,
    max_bytes: int = 1 << 20,
) -> str:
    """What became of it. Raises what refuses it, or keeps it from being committed."""
    now = clock.now()
    signature = expect(len(body), header, now=now, max_bytes=max_bytes)
    event = prepare(body, signature, secrets=secrets, now=now, max_bytes=max_bytes)
    [row] = commit(database, [event])
    if isinstance(row, Exception):
        raise row
    after_commit([(event, row)], queue=queue)
    return "duplicate" if row is None else "recorded"
