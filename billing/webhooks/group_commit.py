"""Group commit: deliveries of one process that wait at the same time share one transaction (LED-13).

`submit` puts an event in line and gives the future of its row. One thread takes what waits, commits it in one
statement, resolves the futures and calls `after_commit`; meanwhile the next ones gather. So a lone delivery waits for
nobody, there is no timer to tune, and each is answered only after its own commit.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue

import sqlalchemy as sa
import structlog

from billing.database import Database, run_in_transaction
from billing.errors import Busy, LedgerUnavailable
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent
from billing.webhooks.events_store import Recorded

log = structlog.get_logger(__name__)

Row = Recorded | None  # None: a duplicate
Committed = Sequence[tuple[NewEvent, Row]]
# Everybody's delivery waits behind this one: a connection that takes longer is dropped, and Stripe sends again.
COMMIT_SECONDS = 2.0
_Waiting = tuple[NewEvent, "Future[Row]"]
_Line = SimpleQueue[_Waiting | None]


class GroupCommit:
    """The line of one process before its ledger."""

    # A batch commits in about 20 ms; 1,000 waiting is more than a second of work: better that Stripe sends again.
    MAX_WAITING = 1000
    MAX_WAITING_BYTES = 32 * 2**20
    MAX_BATCH = 128
    MAX_BATCH_BYTES = 8 * 2**20  # of payloads, which the driver copies

    _line: _Line
    _thread: threading.Thread | None
    _waiting: int
    _waiting_bytes: int

    def __init__(self, database: Database, after_commit: Callable[[Committed], object]) -> None:
        """`after_commit` is called once for each batch, in the committing thread, with those that are in the ledger."""
        self._database, self._after_commit = database, after_commit
        self._begin_anew()

    def submit(self, event: NewEvent) -> "Future[Row]":
        """Put the event in line; the future of its row once that is committed. Raises Busy."""
        if self._pid != os.getpid():  # a fork has none of its parent's threads, and what waits there is the parent's
            self._begin_anew()
        future: Future[Row] = Future()
        size = len(event.payload)
        with self._guard:
            if self._waiting >= self.MAX_WAITING or self._waiting_bytes + size > max(self.MAX_WAITING_BYTES, size):
                raise Busy("Too many deliveries wait for the ledger. Try again.")
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(self._line,), name="commits", daemon=True)
                self._thread.start()
            self._waiting, self._waiting_bytes = self._waiting + 1, self._waiting_bytes + size
            self._line.put((event, future))
        return future

    def close(self) -> None:
        """Commit what waits, and end the thread. A later `submit` starts another one."""
        with self._guard:
            thread, line = self._thread, self._line
            self._thread, self._line = None, SimpleQueue()
            line.put(None)
        if thread is not None:
            thread.join()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()  # of the next four, held for a moment
        self._line, self._thread = SimpleQueue(), None
        self._waiting = self._waiting_bytes = 0

    def _run(self, line: _Line) -> None:
        while batch := self._next(line):
            committed: list[tuple[NewEvent, Row]] = []
            try:
                outcomes = commit(self._database, [event for event, _ in batch])
            except BaseException as error:  # whatever it is, somebody waits
                log.exception("events.not_committed")
                outcomes = [LedgerUnavailable(f"The commit was interrupted ({type(error).__name__}).")] * len(batch)
            for (event, future), outcome in zip(batch, outcomes, strict=True):
                if isinstance(outcome, Exception):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
                    committed.append((event, outcome))
            try:
                self._after_commit(committed)
            except BaseException:  # the next ones wait already, and the sweep finds these
                log.exception("events.not_told", count=len(committed))

    def _next(self, line: _Line) -> list[_Waiting]:
        """Wait for one, and take what waits with it; none once the line is closed."""
        batch: list[_Waiting] = []
        size = 0
        while len(batch) < self.MAX_BATCH and size < self.MAX_BATCH_BYTES:
            try:
                waiting = line.get(block=not batch)
            except Empty:
                break
            if waiting is None:
                line.put(None)  # for the next call
                break
            event, future = waiting
            with self._guard:
                self._waiting, self._waiting_bytes = self._waiting - 1, self._waiting_bytes - len(event.payload)
            if future.set_running_or_notify_cancel():  # else whoever sent it is gone
                batch.append(waiting)
                size += len(event.payload)
        return batch


def commit(database: Database, new: Sequence[NewEvent]) -> list[Row | Exception]:
    """Record the events in one transaction, and where that fails in one for each, so that a bad one fails alone."""
    # In the order of ids: two processes with the same deliveries then wait for each other in one direction only.
    order = sorted(range(len(new)), key=lambda place: new[place].event_id)
    outcomes = dict(zip(order, _commit_all(database, [new[place] for place in order]), strict=True))
    return [outcomes[place] for place in range(len(new))]


def _commit_all(database: Database, new: Sequence[NewEvent]) -> Sequence[Row | Exception]:
    def record(connection: sa.Connection) -> Sequence[Row]:
        database.allow(connection, COMMIT_SECONDS)
        return events_store.record_all(connection, new)

    try:
        # At once: one statement takes them all, and PostgreSQL commits it without being asked again.
        return run_in_transaction(database, record, once=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
        return [error] if len(new) == 1 else _commit_each(database, new)


def _commit_each(database: Database, new: Sequence[NewEvent]) -> Sequence[Row | Exception]:
    """A transaction for each; a ledger that is down is not asked a hundred times."""
    outcomes: list[Row | Exception] = []
    for event in new:
        outcomes.extend(_commit_all(database, [event]))
        if isinstance(outcomes[-1], LedgerUnavailable):
            break
    return outcomes + [outcomes[-1]] * (len(new) - len(outcomes))
