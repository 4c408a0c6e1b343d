"""Group commit: deliveries of one process that wait at the same time share one transaction (LED-13).

`submit` puts an event into the batch that gathers, and gives its place there. One thread takes batch after batch,
commits each in one statement, resolves its future and calls `after_commit`; meanwhile the next one gathers. So a lone
delivery waits for nobody, there is no timer to tune, and each is answered only after its own commit.
"""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from queue import SimpleQueue
from typing import NamedTuple

import sqlalchemy as sa
import structlog

from billing.database import Database, run_in_transaction
from billing.errors import Busy, LedgerUnavailable
from billing.webhooks import events_store
from billing.webhooks.envelope import NewEvent
from billing.webhooks.events_store import Recorded

log = structlog.get_logger(__name__)

Row = Recorded | None  # None: a duplicate
Outcomes = Sequence[Row | Exception]
Committed = Sequence[tuple[NewEvent, Row]]
# Everybody's delivery waits behind this one: a connection that takes longer is dropped, and Stripe sends again.
COMMIT_SECONDS = 2.0


class Pending(NamedTuple):
    """A delivery in line: its batch's future, one for all of the batch, and its number there."""

    batch: "Future[Outcomes]"
    number: int

    def result(self, timeout: float | None = None) -> Row:
        """Wait for the row. Raises what kept it out of the ledger, and TimeoutError after so many seconds."""
        return self.row(self.batch.result(timeout))

    def row(self, outcomes: Outcomes) -> Row:
        """The row, from what came of the batch. Raises what kept it out of the ledger."""
        outcome = outcomes[self.number]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome


class _Batch:
    """Events that are committed together."""

    def __init__(self) -> None:
        self.events: list[NewEvent] = []
        self.bytes = 0
        self.future: Future[Outcomes] = Future()


_Line = SimpleQueue[_Batch | None]


class GroupCommit:
    """The line of one process before its ledger."""

    # A batch commits in about 20 ms; 1,000 waiting is more than a second of work: better that Stripe sends again.
    MAX_WAITING = 1000
    MAX_WAITING_BYTES = 32 * 2**20
    MAX_BATCH = 128
    MAX_BATCH_BYTES = 8 * 2**20  # of payloads, which the driver copies

    _line: _Line
    _thread: threading.Thread | None
    _gathering: _Batch | None  # the last one in line, while there is room in it
    _waiting: int
    _waiting_bytes: int

    def __init__(self, database: Database, after_commit: Callable[[Committed], object]) -> None:
        """`after_commit` is called once for each batch, in the committing thread, with those that are in the ledger."""
        self._database, self._after_commit = database, after_commit
        self._begin_anew()

    def submit(self, event: NewEvent) -> Pending:
        """Put the event in line; its place, for the row once that is committed. Raises Busy."""
        if self._pid != os.getpid():  # a fork has none of its parent's threads, and what waits there is the parent's
            self._begin_anew()
        size = len(event.payload)
        with self._guard:
            if self._waiting >= self.MAX_WAITING or self._waiting_bytes + size > max(self.MAX_WAITING_BYTES, size):
                raise Busy("Too many deliveries wait for the ledger. Try again.")
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, args=(self._line,), name="commits", daemon=True)
                self._thread.start()
            batch = self._gathering
            if batch is None or len(batch.events) >= self.MAX_BATCH or batch.bytes >= self.MAX_BATCH_BYTES:
                batch = self._gathering = _Batch()
                self._line.put(batch)
            batch.events.append(event)
            batch.bytes += size
            self._waiting += 1
            self._waiting_bytes += size
            return Pending(batch.future, len(batch.events) - 1)

    def close(self) -> None:
        """Commit what waits, and end the thread. A later `submit` starts another one."""
        with self._guard:
            thread, line = self._thread, self._line
            self._thread, self._line, self._gathering = None, SimpleQueue(), None
            line.put(None)
        if thread is not None:
            thread.join()

    def _begin_anew(self) -> None:
        self._pid = os.getpid()
        self._guard = threading.Lock()  # of the next five, held for a moment
        self._line, self._thread, self._gathering = SimpleQueue(), None, None
        self._waiting = self._waiting_bytes = 0

    def _run(self, line: _Line) -> None:
        while (batch := line.get()) is not None:
            with self._guard:  # nobody joins it from here on
                if self._gathering is batch:
                    self._gathering = None
                self._waiting -= len(batch.events)
                self._waiting_bytes -= batch.bytes
            try:
                outcomes = commit(self._database, batch.events)
            except BaseException as error:  # whatever it is, somebody waits
                log.exception("events.not_committed")
                interrupted = LedgerUnavailable(f"The commit was interrupted ({type(error).__name__}).")
                outcomes = [interrupted] * len(batch.events)
            batch.future.set_result(outcomes)
            committed = [
                (event, outcome)
                for event, outcome in zip(batch.events, outcomes, strict=True)
                if not isinstance(outcome, Exception)
            ]
            try:
                self._after_commit(committed)
            except BaseException:  # the next ones wait already, and the sweep finds these
                log.exception("events.not_told", count=len(committed))


def commit(database: Database, new: Sequence[NewEvent]) -> Outcomes:
    """Record the events in one transaction, and where that fails in one for each, so that a bad one fails alone."""
    # In the order of ids: two processes with the same deliveries then wait for each other in one direction only.
    order = sorted(range(len(new)), key=lambda place: new[place].event_id)
    outcomes = dict(zip(order, _commit_all(database, [new[place] for place in order]), strict=True))
    return [outcomes[place] for place in range(len(new))]


def _commit_all(database: Database, new: Sequence[NewEvent]) -> Outcomes:
    def record(connection: sa.Connection) -> Sequence[Row]:
        database.allow(connection, COMMIT_SECONDS)
        return events_store.record_all(connection, new)

    try:
        # At once: one statement takes them all, and PostgreSQL commits it without being asked again.
        return run_in_transaction(database, record, once=True)
    except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
        return [error] if len(new) == 1 else _commit_each(database, new)


def _commit_each(database: Database, new: Sequence[NewEvent]) -> Outcomes:
    """A transaction for each; a ledger that is down is not asked a hundred times."""
    outcomes: list[Row | Exception] = []
    for event in new:
        outcomes.extend(_commit_all(database, [event]))
        if isinstance(outcomes[-1], LedgerUnavailable):
            break
    return outcomes + [outcomes[-1]] * (len(new) - len(outcomes))
