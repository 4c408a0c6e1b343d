"""Ingest: the bytes of a delivery come in; a committed row of the ledger comes out, or an error.

1 size (WHK-1)  2 signature (WHK-2 to WHK-5)  3 strict envelope and nothing more (WHK-6 to WHK-10)
4 insert, a conflict is a duplicate (LED-1)  5 commit  6 only then wake a worker (LED-3).
Whoever gets an answer from `receive` may tell Stripe 2xx: everything after it can be redone from the ledger.
"""

import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.database import Database
from billing.errors import InvalidRequest, LedgerUnavailable, PayloadTooLarge
from billing.jobs import ProcessEvent
from billing.models import EventStatus
from billing.queue import Queue
from billing.webhooks import event_ledger
from billing.webhooks.envelope import NewEvent, read_event
from billing.webhooks.signature import verify

log = structlog.get_logger(__name__)

Recorded = tuple[int, EventStatus]

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
    together: "GroupCommit | None" = None,
) -> Literal["recorded", "duplicate"]:
    """Record a delivery, with `together` in one transaction with others that arrive at the same time.

    Raises InvalidSignature, InvalidEvent, PayloadTooLarge and LedgerUnavailable.
    """
    now = clock.now()
    event = _checked(body, signature_header, secrets=secrets, now=now, max_bytes=max_bytes)
    row = (together or GroupCommit(database)).record(event)
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


@dataclass(slots=True)
class _Waiting:
    """A delivery that has been checked, until it is committed or has failed."""

    event: NewEvent
    done: bool = False
    row: Recorded | None = None
    error: Exception | None = None


class GroupCommit:
    """Deliveries of one process that wait at the same time share one transaction (LED-13).

    Whoever has the turn commits for all that wait; meanwhile the next ones gather. So there is no thread to start
    or to stop, a lone delivery waits for nobody, and each is answered only after its own commit.
    """

    # A batch commits in about 20 ms; 1,000 waiting is more than a second of work: better that Stripe sends again.
    MAX_BATCH = 100
    MAX_WAITING = 1000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()  # of the list, held for a moment
        self._turn = threading.Lock()  # to commit
        self._waiting: deque[_Waiting] = deque()

    def record(self, event: NewEvent) -> Recorded | None:
        """The row's id and status, committed; None for a duplicate. Raises LedgerUnavailable."""
        mine = _Waiting(event)
        with self._guard:
            if len(self._waiting) >= self.MAX_WAITING:
                raise LedgerUnavailable("Too many deliveries wait for the ledger. Try again.")
            self._waiting.append(mine)
        with self._turn:
            while not mine.done:  # else whoever had the turn before has committed it, too
                self._commit(self._next())
        if mine.error is not None:
            raise mine.error
        return mine.row

    def _next(self) -> list[_Waiting]:
        with self._guard:
            batch = [self._waiting.popleft() for _ in range(min(self.MAX_BATCH, len(self._waiting)))]
        # In the order of ids: two processes with the same deliveries then wait for each other in one direction only.
        return sorted(batch, key=lambda waiting: waiting.event.event_id)

    def _commit(self, batch: Sequence[_Waiting]) -> None:
        """One transaction for all of them; every one of them is settled when this returns, or raises."""
        try:
            with self._database.write() as connection:
                rows = [event_ledger.record(connection, waiting.event) for waiting in batch]
            for waiting, row in zip(batch, rows, strict=True):
                waiting.row, waiting.done = row, True
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(batch) == 1:
                batch[0].error = error
            else:
                self._one_by_one(batch)
        finally:
            for waiting in batch:
                if not waiting.done and waiting.error is None:  # interrupted: nobody may wait for ever
                    waiting.error = LedgerUnavailable("The ledger's transaction was interrupted. Try again.")
                waiting.done = True

    def _one_by_one(self, batch: Sequence[_Waiting]) -> None:
        """A transaction for each, so that a bad one fails alone; a ledger that is down is not asked a hundred times."""
        down: LedgerUnavailable | None = None
        for waiting in batch:
            if down is None:
                self._commit([waiting])
                down = waiting.error if isinstance(waiting.error, LedgerUnavailable) else None
            else:
                waiting.error = down
