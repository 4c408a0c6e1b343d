"""Group commit: deliveries of one process that wait at the same time share one transaction (LED-13).

Whoever finds nobody committing leads: it takes all that wait, commits them in one statement, and lets them go;
meanwhile the next ones gather, and the first of those leads next. So there is no thread to start or to stop, a lone
delivery waits for nobody, and each is answered only after its own commit: by its own thread, which waits for it
(`record`), or by the one that commits it, and then no thread waits (`hand_in`).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from itertools import pairwise

import structlog

from billing.database import Database, run_in_transaction
from billing.errors import LedgerUnavailable
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent
from billing.webhooks.events_store import Recorded

log = structlog.get_logger(__name__)


class Delivery:
    """A delivery that has been checked, until it is committed or has failed."""

    __slots__ = ("_let_go", "answer", "done", "error", "event", "next", "request_id", "row")

    def __init__(
        self, event: NewEvent, *, request_id: str = "", answer: Callable[["Delivery"], None] | None = None
    ) -> None:
        self.event = event
        self.request_id = request_id  # for the log
        self.answer = answer  # called once it is done; None: its thread waits
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


AfterCommit = Callable[[Sequence[Delivery]], None]


class GroupCommit:
    """The line of one process before its ledger."""

    # A batch commits in about 20 ms; 1,000 waiting is more than a second of work: better that Stripe sends again.
    MAX_BATCH = 128
    MAX_BATCH_BYTES = 8 * 2**20  # of payloads, which the driver copies
    MAX_WAITING = 1000
    # So long whoever has committed keeps the lead while it tells the news, which takes 2 ms: a batch is larger then
    # (measured on SQLite: a sixth more deliveries a second). A Redis that hangs must not hold up the answers. One whose
    # own delivery waits for that gives the lead away at once.
    NEWS_SECONDS = 0.02

    def __init__(self, database: Database) -> None:
        self._database = database
        self._guard = threading.Lock()  # of the next three, held for a moment
        self._waiting: deque[Delivery] = deque()
        self._leader: Delivery | None = None  # whose thread it is that leads
        self._led_until = 0.0  # from then on, whoever comes leads

    def record(self, mine: Delivery, after_commit: AfterCommit) -> Recorded | None:
        """The row's id and status, committed; None for a duplicate. Raises LedgerUnavailable.

        `after_commit` is called once for each batch, with those of it that are in the ledger now.
        """
        if not self._joined(mine):
            mine.wait()
        if not mine.done:  # then it is the first that waits, and nobody else commits
            self._lead(mine, after_commit)
        if mine.error is not None:
            raise mine.error
        return mine.row

    def hand_in(self, mine: Delivery, after_commit: AfterCommit) -> None:
        """Have it committed and answered, by this thread or by one that commits already. Raises LedgerUnavailable."""
        if self._joined(mine):
            self._lead(mine, after_commit)

    def _joined(self, mine: Delivery) -> bool:
        """Stand in line; whether nobody commits, so that whoever came leads."""
        with self._guard:
            if len(self._waiting) >= self.MAX_WAITING:
                raise LedgerUnavailable("Too many deliveries wait for the ledger. Try again.")
            self._waiting.append(mine)
            leads = time.monotonic() >= self._led_until
            if leads:
                self._leader, self._led_until = mine, math.inf
        return leads

    def _lead(self, mine: Delivery, after_commit: AfterCommit) -> None:
        """Commit a batch, let go of it, and hand over; and again, while nobody has come to do it."""
        failed: BaseException | None = None
        leads = True
        while leads:
            batch, keeps_seconds = self._next(), 0.0
            try:
                self._commit(batch)
                keeps_seconds = 0.0 if mine.answer is None else self.NEWS_SECONDS
            finally:
                self._hand_over(keeps_seconds)
                _let_go(batch, mine)
            try:
                after_commit([delivery for delivery in batch if delivery.error is None])
            except BaseException as error:  # noqa: BLE001 - raised below: others may wait
                failed = error
            leads = self._goes_on(mine)
        if failed is not None:
            raise failed

    def _next(self) -> list[Delivery]:
        batch: list[Delivery] = []
        size = 0
        with self._guard:
            while self._waiting and len(batch) < self.MAX_BATCH and size < self.MAX_BATCH_BYTES:
                batch.append(self._waiting.popleft())
                size += len(batch[-1].event.payload)
        return batch

    def _hand_over(self, keeps_seconds: float) -> None:
        with self._guard:
            if not self._first_leads():
                self._led_until = time.monotonic() + keeps_seconds

    def _goes_on(self, mine: Delivery) -> bool:
        """Whether some wait, and nobody else has come to lead."""
        with self._guard:
            if self._leader is not mine or self._first_leads():
                return False
            self._led_until = math.inf if self._waiting else 0.0
            return bool(self._waiting)

    def _first_leads(self) -> bool:
        """Let the first that waits lead, where it has a thread that does; the guard is held."""
        if not self._waiting or self._waiting[0].answer is not None:
            return False
        self._leader, self._led_until = self._waiting[0], math.inf
        self._leader.wake()
        return True

    def _commit(self, batch: Sequence[Delivery]) -> None:
        """One transaction for all of them; every one of them is done when this returns, or raises."""
        # In the order of ids: two processes with the same deliveries then wait for each other in one direction only.
        ordered = sorted(batch, key=lambda delivery: delivery.event.event_id)
        try:
            events = [delivery.event for delivery in ordered]
            # At once: one statement takes them all, and PostgreSQL commits it without being asked again.
            rows = run_in_transaction(
                self._database, lambda connection: events_store.record_all(connection, events), once=True
            )
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


def _let_go(batch: Sequence[Delivery], mine: Delivery) -> None:
    """Answer those whose threads have gone, and wake the threads of the others."""
    for delivery in batch:
        if delivery.answer is not None:
            try:
                delivery.answer(delivery)
            except Exception:  # one that cannot be answered is sent again
                log.exception("event.not_answered", request_id=delivery.request_id)
    # Each wakes the next, this one the first of them: all at once, they would fight for the interpreter, and with
    # them the next batch's leader (measured: a tenth fewer requests a second).
    asleep = [delivery for delivery in batch if delivery.answer is None and delivery is not mine]
    for delivery, after in pairwise(asleep):
        delivery.next = after
    if asleep:
        asleep[0].wake()
