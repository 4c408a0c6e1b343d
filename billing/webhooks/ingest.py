"""Ingest: the bytes of a delivery come in; a committed row of the ledger comes out, or an error.

1 size (WHK-1)  2 signature (WHK-2 to WHK-5)  3 strict envelope and nothing more (WHK-6 to WHK-10)
4 insert, a conflict is a duplicate (LED-1)  5 commit, together with others (LED-13)  6 then wake a worker (LED-3).
Who is given a row, or None, may be told 2xx: everything after it can be redone from the ledger and from Stripe.
"""

import threading
from collections import Counter as Tally
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from functools import partial
from typing import Protocol

import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import Queue
from billing.database import Database
from billing.errors import InvalidRequest, InvalidSignature, PayloadTooLarge
from billing.models import EventStatus
from billing.process import marks
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.group_commit import Committed, GroupCommit, Pending, Row
from billing.webhooks.signature import Signature, read_signature, verify

log = structlog.get_logger(__name__)

SIGNATURES_REFUSED = Counter("onelane_signatures_refused_total", "Deliveries whose signature does not fit.")
SIGNATURE_REFUSED = Counter("onelane_signature_refused_total", "The same, by the name of before.")
RECORDED = Counter("onelane_events_recorded_total", "Deliveries, by what became of them.", ["result"])
# A line costs 50 µs, half of a delivery under load: a batch of more than these is one line together.
LINES_OF_A_BATCH = 8
# Under load a commit comes every 10 ms, and a wake-up takes as long as four deliveries.
REST_SECONDS = 0.05
REFUSALS = (InvalidRequest, PayloadTooLarge)


class Ingest:
    """The way into the ledger of one process."""

    def __init__(
        self, *, secrets: Sequence[str], database: Database, queue: Queue, clock: Clock, max_bytes: int
    ) -> None:
        self._secrets, self._clock, self._max_bytes = secrets, clock, max_bytes
        self._wakes = _Wakes(queue)
        self._group = GroupCommit(database, partial(after_commit, queue=self._wakes))

    def expect(self, length: int, header: str | None, *, request_id: str = "") -> Signature:
        """Before its body is read: refuse a delivery that says too much, or whose header can be no good signature.

        `length` is of the body, in bytes. Raises InvalidSignature and PayloadTooLarge.
        """
        try:
            return expect(length, header, now=self._clock.now(), max_bytes=self._max_bytes)
        except REFUSALS as error:
            _note_refusal(error, length, request_id, is_signed=header is not None)
            raise

    def submit(self, body: bytes, signature: Signature, *, request_id: str = "") -> Pending:
        """Check a delivery and have it committed. Raises InvalidSignature, InvalidEvent, PayloadTooLarge and Busy."""
        try:
            event = prepare(
                body,
                signature,
                secrets=self._secrets,
                now=self._clock.now(),
                max_bytes=self._max_bytes,
                request_id=request_id,
            )
        except REFUSALS as error:
            _note_refusal(error, len(body), request_id, is_signed=True)
            raise
        return self._group.submit(event)

    def close(self) -> None:
        """Commit what waits, and wake a worker for it."""
        self._group.close()
        self._wakes.close()


class Sender(Protocol):
    def send(self, job: WorkEvents) -> object:
        """Send it, now or soon."""


class _Wakes:
    """Sends wake-ups in a thread: while Redis hangs, each takes up to 10 s, for which no commit may wait.

    The first is sent at once. Under load the next ones are one, up to REST_SECONDS later.
    """

    def __init__(self, queue: Sender) -> None:
        self._queue, self._thread = queue, ThreadPoolExecutor(1, "wakes")
        self._closing = threading.Event()
        self._last: Future[object] | None = None

    def send(self, job: WorkEvents) -> None:
        """Send one after those before it; one that has not begun yet says the same."""
        if self._last is None or self._last.running() or self._last.done():
            self._last = self._thread.submit(self._send, job)

    def close(self) -> None:
        """Send the last one, without a rest."""
        self._closing.set()
        self._thread.shutdown()

    def _send(self, job: WorkEvents) -> None:
        self._queue.send(job)
        self._closing.wait(REST_SECONDS)


def expect(length: int, header: str | None, *, now: datetime, max_bytes: int) -> Signature:
    """What can be refused before the body is read. Pure. Raises InvalidSignature and PayloadTooLarge."""
    _refuse_large(length, max_bytes)
    return read_signature(header, now=now.timestamp())


def prepare(
    body: bytes, signature: Signature, *, secrets: Sequence[str], now: datetime, max_bytes: int, request_id: str = ""
) -> NewEvent:
    """Steps 1 to 3, after the header was read. Pure. Raises InvalidSignature, InvalidEvent and PayloadTooLarge."""
    _refuse_large(len(body), max_bytes)
    verify(body, signature, secrets)
    return read_event(body, now=now, request_id=request_id)


def after_commit(batch: Committed, *, queue: Sender) -> None:
    """Wake a worker for a batch that is in the ledger, count the deliveries, and log them."""
    if any(row is not None and row[1] is EventStatus.PENDING for _, row in batch):
        queue.send(WorkEvents())
    results = Tally(_result(row) for _, row in batch)
    for result, count in results.items():
        RECORDED.labels(result).inc(count)
    if len(batch) > LINES_OF_A_BATCH:
        log.debug("events.recorded", **results, event_ids=" ".join(event.event_id for event, _ in batch))
        return
    for event, row in batch:
        about = {"event_id": event.event_id, "type": event.type}
        about |= {"request_id": event.request_id} if event.request_id else {}
        if row is None:
            log.debug("event.duplicate", **about)
        else:
            log.debug("event.recorded", status=row[1].value, **about)


def _result(row: Row) -> str:
    if row is None:
        return "duplicate"
    return "recorded" if row[1] is EventStatus.PENDING else row[1].value


def _note_refusal(error: InvalidRequest | PayloadTooLarge, size: int, request_id: str, *, is_signed: bool) -> None:
    """Count and log what is refused, without a byte of it. One that has no signature at all is a stranger's."""
    RECORDED.labels(error.code).inc()
    if isinstance(error, InvalidSignature):
        SIGNATURES_REFUSED.inc()
        SIGNATURE_REFUSED.inc()
        if is_signed:
            marks.note(marks.SIGNATURE_REFUSED, error.sentence)
    about = {"request_id": request_id} if request_id else {}
    log.warning("event.refused", code=error.code, reason=error.sentence, size=size, **about)


def _refuse_large(size: int, max_bytes: int) -> None:
    if size > max_bytes:
        raise PayloadTooLarge(max_bytes)
