"""Ingest: the bytes of a delivery come in; a committed row of the ledger comes out, or an error.

1 size (WHK-1)  2 signature (WHK-2 to WHK-5)  3 strict envelope and nothing more (WHK-6 to WHK-10)
4 insert, a conflict is a duplicate (LED-1)  5 commit  6 only then wake a worker (LED-3).
Whoever gets an answer from `receive` may tell Stripe 2xx: everything after it can be redone from the ledger.
"""

from collections import Counter as Tally
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Literal

import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.database import Database
from billing.errors import InvalidRequest, PayloadTooLarge
from billing.jobs import ProcessEvent
from billing.logs import log_batch
from billing.models import EventStatus
from billing.queue import Queue
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.events_store import Recorded
from billing.webhooks.group_commit import Delivery, GroupCommit
from billing.webhooks.signature import verify

log = structlog.get_logger(__name__)

Status = Literal["recorded", "duplicate"]

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
    together: GroupCommit | None = None,
    request_id: str = "",
) -> Status:
    """Record a delivery, with `together` in one transaction with others that arrive at the same time.

    Raises InvalidSignature, InvalidEvent, PayloadTooLarge and LedgerUnavailable.
    """
    event = _checked(body, signature_header, secrets=secrets, now=clock.now(), max_bytes=max_bytes)
    delivery = Delivery(event, request_id=request_id)
    row = (together or GroupCommit(database)).record(delivery, lambda batch: _committed(batch, queue))
    return _status(row)


def hand_in(
    body: bytes,
    signature_header: str | None,
    *,
    secrets: Sequence[str],
    queue: Queue,
    clock: Clock,
    max_bytes: int,
    together: GroupCommit,
    request_id: str,
    answer: Callable[[Status | Exception], None],
) -> None:
    """The same, without a thread that waits: whoever commits it calls `answer` with what `receive` gives or raises.

    What is refused at once is raised here, and `answer` is not called.
    """
    event = _checked(body, signature_header, secrets=secrets, now=clock.now(), max_bytes=max_bytes)

    def settled(delivery: Delivery) -> None:
        answer(delivery.error or _status(delivery.row))

    together.hand_in(Delivery(event, request_id=request_id, answer=settled), lambda batch: _committed(batch, queue))


def _status(row: Recorded | None) -> Status:
    return "duplicate" if row is None else "recorded"


def _committed(batch: Sequence[Delivery], queue: Queue) -> None:
    """Wake a worker for each customer of a batch that is in the ledger, and say what became of the deliveries."""
    jobs: dict[str | int, ProcessEvent] = {}  # one is enough for a customer: it claims all of their events
    lines = []
    for delivery in batch:
        event, row = delivery.event, delivery.row
        if row is None:
            line = {"event": "event.duplicate", "event_id": event.event_id, "type": event.type}
        else:
            row_id, status = row
            line = {"event": "event.recorded", "event_id": event.event_id, "type": event.type, "status": status.value}
            if status is EventStatus.PENDING:
                whose = event.customer_id
                jobs.setdefault(whose or row_id, ProcessEvent(row_id, about=whose or ""))
        lines.append({"request_id": delivery.request_id, **line} if delivery.request_id else line)
    queue.send_all(list(jobs.values()))
    for result, count in Tally(map(_result, batch)).items():
        RECORDED.labels(result).inc(count)
    log_batch(__name__, lines)


def _result(delivery: Delivery) -> str:
    if delivery.row is None:
        return "duplicate"
    status = delivery.row[1]
    return "recorded" if status is EventStatus.PENDING else status.value


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
