"""Ingest: the bytes of a delivery come in; a committed row of the ledger comes out, or an error.

1 size (WHK-1)  2 signature (WHK-2 to WHK-5)  3 strict envelope and nothing more (WHK-6 to WHK-10)
4 insert, a conflict is a duplicate (LED-1)  5 commit  6 only then wake a worker (LED-3).
Whoever gets an answer from `receive` may tell Stripe 2xx: everything after it can be redone from the ledger.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import structlog
from prometheus_client import Counter

from billing import event_ledger
from billing.clock import Clock
from billing.database import Database
from billing.envelope import NewEvent, read_event
from billing.errors import InvalidRequest, PayloadTooLarge
from billing.jobs import ProcessEvent
from billing.models import EventStatus
from billing.queue import Queue
from billing.signature import verify

log = structlog.get_logger(__name__)

RECORDED = Counter("onelane_events_recorded_total", "Deliveries, by what became of them.", ["result"])


def receive(
    body: bytes,
    signature_header: str | None,
    *,
    secrets: Sequence[str],
    database: Database,
    queue: Queue,
    clock: Clock,
    max_bytes: int,
) -> Literal["recorded", "duplicate"]:
    """Record a delivery. Raises InvalidSignature, InvalidEvent, PayloadTooLarge and LedgerUnavailable."""
    now = clock.now()
    event = _checked(body, signature_header, secrets=secrets, now=now, max_bytes=max_bytes)
    with database.write() as connection:
        row = event_ledger.record(connection, event)
    if row is None:
        RECORDED.labels("duplicate").inc()
        log.info("event.duplicate", event_id=event.event_id, type=event.type)
        return "duplicate"
    row_id, status = row
    RECORDED.labels("recorded" if status is EventStatus.PENDING else status.value).inc()
    log.info("event.recorded", event_id=event.event_id, type=event.type, status=status.value)
    if status is EventStatus.PENDING:
        queue.send(ProcessEvent(row_id))
    return "recorded"


def _checked(
    body: bytes, signature_header: str | None, *, secrets: Sequence[str], now: datetime, max_bytes: int
) -> NewEvent:
    """Steps 1 to 3; what is refused is counted and logged, without a byte of it."""
    try:
        _refuse_large(len(body), max_bytes)
        verify(body, signature_header, secrets, now=now.timestamp())
        return read_event(body, now=now)
    except (InvalidRequest, PayloadTooLarge) as error:
        RECORDED.labels(error.code).inc()
        log.warning("event.refused", code=error.code, reason=error.sentence, size=len(body))
        raise


def _refuse_large(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PayloadTooLarge(max_bytes)
