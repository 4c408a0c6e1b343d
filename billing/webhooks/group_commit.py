"""Group commit: deliveries of one process that wait at the same time share one transaction (LED-13).

Whoever finds nobody committing leads: it takes all that wait, commits them in one statement, and lets them go;
meanwhile the next ones gather, and the first of those leads next. So there is no thread to start or to stop, a lone
delivery waits for nobody, and each is answered only after its own commit.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

from billing.database import Database, committed
from billing.errors import LedgerUnavailable
from billing.webhooks import event_ledger
from billing.webhooks.envelope import NewEvent
from billing.webhooks.event_ledger import Recorded


class Delivery:
    """A delivery that has been checked, until it is committed or has failed."""

    __slots__ = ("_let_go", "done", "error", "event", "next", "request_id", "row")

    def __init__(self, event: NewEvent, *, request_id: str = "") -> None:
        self.event = event
        self.request_id = request_id  # for the log
        self.row: Recorded | None = None  # None, once done: a duplicate
        self.error: Exception | None = None
        self.done = False
        self.next: Delivery | None = None  # of the same batch
        self._let_go = threading.Lock()  # held until there is news: the cheapest thing to wait for
        self._let_go.acquire()

    def wait(self) -> None:
        """Until it is done, or it is its turn to lead; then the next one of its batch may go."""
        self._let_go.acquire()
        if self.next is not None:
            self.next.wake()

    def wake(self) -> None:
        """Let whoever waits for it look."""
        self._let_go.release()


class GroupCommit:
    """The line of one process before its ledger."""

    # A batch commits in about 20 ms; 1,000 waiting is more than a second of work: better that Stripe sends again.
    MAX_BATCH = 128
    MAX_BATCH_BYTES = 8 * 2**20  # of payloads, which the driver copies
    MAX_WAITING = 1000

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()  # of the next two, held for a moment
        self._waiting: deque[Delivery] = deque()
        self._led = False

    def record(self, mine: Delivery, after_commit: Callable[[Sequence[Delivery]], None]) -> Recorded | None:
        """The row's id and status, committed; None for a duplicate. Raises LedgerUnavailable.

        `after_commit` is called once for each batch, with those of it that are in the ledger now.
        """
        with self._guard:
            if len(self._waiting) >= self.MAX_WAITING:
                raise LedgerUnavailable("Too many deliveries wait for the ledger. Try again.")
            self._waiting.append(mine)
            leads, self._led = not self._led, True
        if not leads:
            mine.wait()
        if not mine.done:  # then it is the first that waits, and nobody else commits
            self._lead(after_commit)
        if mine.error is not None:
            raise mine.error
        return mine.row

    def _lead(self, after_commit: Callable[[Sequence[Delivery]], None]) -> None:
        """Commit a batch, let go of it, and hand over."""
        batch = self._next()
        try:
            self._commit(batch)
        finally:
            self._hand_over()
            # Each wakes the next, the leader the first of them: all at once, they would fight for the interpreter,
            # and with them the next batch's leader (measured: a tenth fewer requests a second).
            for delivery, after in pairwise(batch):
                delivery.next = after
            if batch[0].next is not None:
                batch[0].next.wake()
        after_commit([delivery for delivery in batch if delivery.error is None])

    def _next(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        with self._guard:
            while self._waiting and len(batch) < self.MAX_BATCH and size < self.MAX_BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].event.payload)
        return batch

    def _hand_over(self) -> None:
        with self._guard:
            if self._waiting:
                self._waiting[0].wake()
            else:
                self._led = False

    def _commit(self, batch: Sequence[Delivery]) -> None:
        """One transaction for all of them; every one of them is done when this returns, or raises."""
        # In the order of ids: two processes with the same deliveries then wait for each other in one direction only.
        ordered = sorted(batch, key=lambda delivery: delivery.event.event_id)
        try:
            events = [delivery.event for delivery in ordered]
            # At once: one statement takes them all, and PostgreSQL commits it without being asked again.
            rows = committed(self._database, lambda connection: event_ledger.record_all(connection, events), once=True)
            for delivery, row in zip(ordered, rows, strict=True):
                delivery.row, delivery.done = row, True
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(batch) == 1:
                batch[0].error = error
            else:
                self._one_by_one(ordered)
        finally:
            for delivery in batch:
                if not delivery.done and delivery.error is None:  # interrupted: nobody may wait for ever
                    delivery.error = LedgerUnavailable("The ledger's transaction was interrupted. Try again.")
                delivery.done = True

    def _one_by_one(self, batch: Sequence[Delivery]) -> None:
        """A transaction for each, so that a bad one fails alone; a ledger that is down is not asked a hundred times."""
        down: LedgerUnavailable | None = None
        for delivery in batch:
            if down is None:
                self._commit([delivery])
                down = delivery.error if isinstance(delivery.error, LedgerUnavailable) else None
            else:
                delivery.error = down
