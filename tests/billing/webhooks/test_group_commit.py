"""Group commit: deliveries that wait at the same time share a transaction, and otherwise notice nothing of it."""

import dataclasses
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import sqlalchemy as sa

from billing.errors import LedgerUnavailable
from billing.models import events
from billing.webhooks import events_store
from billing.webhooks.envelope import read_event
from billing.webhooks.group_commit import Delivery, GroupCommit
from billing.webhooks.ingest import receive
from tests.support.builders import NOON, SECRET, build_event, deliver


class Gated:
    """A database whose commits wait for a gate, and are counted."""

    def __init__(self, database):
        self._database = database
        self.gate = threading.Event()
        self.transactions = 0
        self.failing = None

    @contextmanager
    def autocommit(self):
        """A transaction."""
        self.transactions += 1
        with self._database.write() as connection:
            yield connection
            assert self.gate.wait(10)
            if self.failing:
                raise self.failing


@pytest.fixture
def gated(database):
    """The ledger behind a gate."""
    return Gated(database)


def new_event(**instead):
    """A checked event."""
    return read_event(deliver(build_event(**instead))[0], now=NOON)


def record(group, event):
    """Record it, with nothing to do after the commit."""
    return group.record(Delivery(event), lambda batch: None)


def ids_in(database):
    """What the ledger holds."""
    with database.read() as connection:
        return sorted(connection.scalars(sa.select(events.c.event_id)))


def gather(threads, group, gated, deliveries):
    """Let the first one begin its commit and all others wait for theirs; then open the gate."""
    first = threads.submit(record, group, deliveries[0])
    until(lambda: gated.transactions == 1)
    others = [threads.submit(record, group, delivery) for delivery in deliveries[1:]]
    until(lambda: len(group._waiting) == len(others))
    gated.gate.set()
    return [first, *others]


def until(condition):
    """Wait for a condition, with a deadline."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def poison(monkeypatch):
    """Have the ledger refuse whatever comes with evt_poison."""
    record_all = events_store.record_all

    def poisoned(connection, new):
        if any(event.event_id == "evt_poison" for event in new):
            raise ZeroDivisionError
        return record_all(connection, new)

    monkeypatch.setattr("billing.webhooks.group_commit.events_store.record_all", poisoned)


def test_deliveries_that_wait_share_one_transaction(database, gated):
    """LED-13."""
    deliveries = [new_event() for _ in range(20)]
    with ThreadPoolExecutor(20) as threads:
        answers = [answer.result() for answer in gather(threads, GroupCommit(gated), gated, deliveries)]
    assert gated.transactions == 2
    assert len({row_id for row_id, _status in answers}) == 20
    assert ids_in(database) == sorted(delivery.event_id for delivery in deliveries)


def test_nobody_is_answered_before_the_commit(gated):
    """LED-13, LED-3."""
    group = GroupCommit(gated)
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(record, group, new_event())
        until(lambda: gated.transactions == 1)
        with pytest.raises(TimeoutError):
            answer.result(timeout=0.1)
        gated.gate.set()
        assert answer.result()


def test_same_event_twice_in_a_batch_is_one_row(database, gated):
    """LED-13, LED-1."""
    deliveries = [new_event(), *[new_event(id="evt_same") for _ in range(5)]]
    with ThreadPoolExecutor(6) as threads:
        answers = [answer.result() for answer in gather(threads, GroupCommit(gated), gated, deliveries)]
    assert answers.count(None) == 4
    assert len(ids_in(database)) == 2


def test_one_that_fails_fails_alone(database, gated, monkeypatch):
    """LED-13."""
    poison(monkeypatch)
    deliveries = [new_event(id=id) for id in ("evt_a", "evt_b", "evt_poison", "evt_z")]
    with ThreadPoolExecutor(4) as threads:
        answers = gather(threads, GroupCommit(gated), gated, deliveries)
    assert [type(answer.exception()) for answer in answers].count(ZeroDivisionError) == 1
    assert ids_in(database) == ["evt_a", "evt_b", "evt_z"]


def test_ledger_that_is_down_refuses_all_and_is_not_asked_for_each(database, gated):
    """LED-13, LED-3: nothing is answered that was not committed."""
    gated.failing = LedgerUnavailable("gone")
    with ThreadPoolExecutor(20) as threads:
        answers = gather(threads, GroupCommit(gated), gated, [new_event() for _ in range(20)])
    assert {type(answer.exception()) for answer in answers} == {LedgerUnavailable}
    assert gated.transactions <= 3
    assert ids_in(database) == []


def test_too_many_that_wait_are_refused(gated, monkeypatch):
    """LED-14: memory is bounded, and Stripe sends again."""
    monkeypatch.setattr(GroupCommit, "MAX_WAITING", 3)
    group = GroupCommit(gated)
    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(record, group, new_event())
        until(lambda: gated.transactions == 1)
        others = [threads.submit(record, group, new_event()) for _ in range(3)]
        until(lambda: len(group._waiting) == 3)
        with pytest.raises(LedgerUnavailable):
            record(group, new_event())
        gated.gate.set()
        assert all(answer.result() for answer in [first, *others])
    assert record(group, new_event())


def test_interrupted_commit_leaves_nobody_waiting(gated):
    """LED-13."""

    class Interrupt(BaseException):
        """Something like SystemExit."""

    gated.failing = Interrupt()
    group = GroupCommit(gated)
    gated.gate.set()
    with pytest.raises(Interrupt):
        record(group, new_event())
    gated.failing = None
    assert record(group, new_event())


def test_hundred_threads_receive_through_one_group(database, queue, clock):
    """LED-13, LED-1: with signatures, duplicates and wake-ups."""
    group = GroupCommit(database)
    bodies = [deliver(build_event(id=f"evt_{number % 150}")) for number in range(300)]
    places = {"database": database, "queue": queue, "clock": clock, "together": group}

    def take(delivery):
        return receive(*delivery, secrets=[SECRET], max_bytes=1 << 20, **places)

    with ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(take, bodies))
    assert (answers.count("recorded"), answers.count("duplicate")) == (150, 150)
    assert len(ids_in(database)) == 150
    assert {job.about for job in queue.sent} == {"cus_1"}


@pytest.mark.parametrize("count", [1, 2, 31, 128])
def test_ledger_is_asked_as_often_for_many_events_as_for_one(database, count):
    """WHK-90: one statement in PostgreSQL, which commits by itself; in SQLite a second one reads what came of it."""
    asked = []
    deliveries = [Delivery(new_event()) for _ in range(count)]
    sa.event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    GroupCommit(database)._commit(deliveries)
    assert len(asked) == (2 if database.is_sqlite else 1)
    assert len(ids_in(database)) == count


def test_each_event_of_a_batch_is_told_its_own_row(database):
    """WHK-91, LED-1: of 200, some are there already, some come twice, some have no customer."""
    there = [new_event(id=f"evt_there_{number}") for number in range(30)]
    with database.autocommit() as connection:
        events_store.record_all(connection, there)
    new = [new_event(id=f"evt_{number}", subject={"id": f"prod_{number}"}) for number in range(140)]
    batch = [event for row in zip(new, there * 5, new[::-1], strict=False) for event in row][:200]
    with database.autocommit() as connection:
        answers = events_store.record_all(connection, batch)
    with database.read() as connection:
        rows = {row.event_id: row for row in connection.execute(sa.select(events))}
    seen = set()
    for event, answer in zip(batch, answers, strict=True):
        first = event.event_id not in seen and not event.event_id.startswith("evt_there")
        assert (answer is not None) is first
        seen.add(event.event_id)
        if answer is not None:
            row = rows[event.event_id]
            assert answer == (row.id, row.status)
            assert {name: getattr(row, name) for name in events_store.COLUMNS} == dataclasses.asdict(event)


def test_deliveries_go_though_each_is_woken_by_the_one_before(database, gated):
    """WHK-92: also those whose batch failed, and whose leader's news failed to go out."""
    group, gated.failing = GroupCommit(gated), ZeroDivisionError()

    def broken(batch):
        raise ConnectionError

    told = []

    def deliver_one():
        try:
            group.record(Delivery(new_event()), broken)
        except (ZeroDivisionError, ConnectionError) as error:
            told.append(type(error))

    threads = [
        threading.Thread(target=deliver_one, daemon=True) for _ in range(40)
    ]  # who waits for ever holds up nobody
    threads[0].start()
    until(lambda: gated.transactions == 1)
    for thread in threads[1:]:
        thread.start()
    until(lambda: len(group._waiting) == 39)
    gated.gate.set()
    until(lambda: len(told) == 40)
    assert ZeroDivisionError in told
    assert ids_in(database) == []
