"""Group commit: deliveries that wait at the same time share a transaction, and otherwise notice nothing of it."""

import os
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import Busy, LedgerUnavailable
from billing.models import events
from billing.webhooks import events_store
from billing.webhooks.envelope import read_event
from billing.webhooks.group_commit import GroupCommit, commit
from billing.webhooks.ingest import Ingest
from tests.support.builders import NOON, SECRET, build_event, deliver
from tests.support.valkey import wait_until

SECONDS = 20  # far more than anything here takes


class Gated:
    """A database whose commits wait for a gate, and are counted."""

    allow = staticmethod(lambda *_: None)

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
            assert self.gate.wait(SECONDS)
            if self.failing:
                raise self.failing


@pytest.fixture
def gated(database):
    """The ledger behind a gate."""
    return Gated(database)


@pytest.fixture
def make_group():
    """Make a line before a ledger; whatever waits in it is let go at the end."""
    made = []

    def make(ledger, after_commit=lambda batch: None):
        made.append((GroupCommit(ledger, after_commit), ledger))
        return made[-1][0]

    yield make
    for group, ledger in made:
        if isinstance(ledger, Gated):
            ledger.gate.set()
        group.close()


def new_event(**instead):
    """A checked event."""
    return read_event(deliver(build_event(**instead))[0], now=NOON)


def ids_in(database):
    """What the ledger holds."""
    with database.read() as connection:
        return sorted(connection.scalars(sa.select(events.c.event_id)))


def gather(group, gated, new):
    """Let the first one's commit begin and all others wait for theirs; their places."""
    first = group.submit(new[0])
    wait_until(lambda: gated.transactions == 1, "a commit")
    return [first, *(group.submit(event) for event in new[1:])]


def outcome(pending):
    """The row, or what kept it out of the ledger."""
    try:
        return pending.result(SECONDS)
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return error


def settled(places):
    """What became of each."""
    return [outcome(pending) for pending in places]


@pytest.fixture
def poison(monkeypatch):
    """Have the ledger refuse whatever comes with evt_poison."""
    record_all = events_store.record_all

    def poisoned(connection, new):
        if any(event.event_id == "evt_poison" for event in new):
            raise ZeroDivisionError
        return record_all(connection, new)

    monkeypatch.setattr(events_store, "record_all", poisoned)


def test_deliveries_that_wait_share_one_transaction(database, gated, make_group):
    """LED-13, LED-50: no thread waits for them."""
    new = [new_event() for _ in range(50)]
    places = gather(make_group(gated), gated, new)
    assert not any(pending.batch.done() for pending in places)
    gated.gate.set()
    rows = settled(places)
    assert gated.transactions == 2
    assert len({row_id for row_id, _status in rows}) == 50
    assert ids_in(database) == sorted(event.event_id for event in new)


def test_ledger_that_is_down_fails_all_for_its_own_reason(gated):
    """LED-13: it is asked for all at once, and for the first one alone; the others share that answer."""
    gated.gate.set()
    gated.failing = LedgerUnavailable("It is down.")
    for number in (1, 2, 5):
        before = gated.transactions
        assert commit(gated, [new_event() for _ in range(number)]) == [gated.failing] * number
        assert gated.transactions - before == min(number, 2)


def test_nobody_is_answered_before_the_commit(gated, make_group):
    """LED-13, LED-3."""
    pending = make_group(gated).submit(new_event())
    wait_until(lambda: gated.transactions == 1, "a commit")
    with pytest.raises(TimeoutError):
        pending.result(timeout=0.1)
    gated.gate.set()
    assert pending.result(SECONDS)


def test_answers_do_not_wait_for_what_comes_after_the_commit(database, make_group):
    """LED-3: a Redis that hangs is slow for nobody but those who are woken."""
    hangs = threading.Event()
    group = make_group(database, lambda batch: hangs.wait(SECONDS))
    try:
        assert group.submit(new_event()).result(SECONDS)
    finally:
        hangs.set()


def test_same_event_twice_in_a_batch_is_one_row(database, gated, make_group):
    """LED-13, LED-1, WHK-91."""
    places = gather(make_group(gated), gated, [new_event(), *[new_event(id="evt_same") for _ in range(5)]])
    gated.gate.set()
    assert settled(places).count(None) == 4
    assert len(ids_in(database)) == 2


def test_one_that_fails_fails_alone(database, gated, make_group, poison):
    """LED-13, WHK-92: each is told its own row, and what comes after the commit hears of those in the ledger only."""
    told = []
    places = gather(
        make_group(gated, told.extend), gated, [new_event(id=id) for id in ("evt_z", "evt_b", "evt_poison", "evt_a")]
    )
    gated.gate.set()
    outcomes = settled(places)
    assert isinstance(outcomes.pop(2), ZeroDivisionError)
    assert ids_in(database) == ["evt_a", "evt_b", "evt_z"]
    with database.read() as connection:
        rows = {row.event_id: row.id for row in connection.execute(sa.select(events))}
    assert [row_id for row_id, _ in outcomes] == [rows[id] for id in ("evt_z", "evt_b", "evt_a")]
    wait_until(lambda: len(told) == 3, "all are told")
    assert {event.event_id for event, _ in told} == {"evt_a", "evt_b", "evt_z"}


def test_ledger_that_is_down_refuses_all_and_is_not_asked_for_each(database, gated, make_group):
    """LED-13, LED-3: nothing is answered that was not committed."""
    gated.failing = LedgerUnavailable("gone")
    places = gather(make_group(gated), gated, [new_event() for _ in range(20)])
    gated.gate.set()
    assert {type(outcome) for outcome in settled(places)} == {LedgerUnavailable}
    assert gated.transactions <= 3
    assert ids_in(database) == []


@pytest.mark.parametrize("bound", ["number", "bytes"])
def test_too_many_that_wait_are_refused(gated, make_group, monkeypatch, bound):
    """LED-14: memory is bounded, and Stripe sends again."""
    event = new_event()
    if bound == "number":
        monkeypatch.setattr(GroupCommit, "MAX_WAITING", 3)
    else:
        monkeypatch.setattr(GroupCommit, "MAX_WAITING_BYTES", 3 * len(event.payload))
    group = make_group(gated)
    places = gather(group, gated, [event] * 4)
    with pytest.raises(Busy):
        group.submit(event)
    gated.gate.set()
    assert len(settled(places)) == 4
    assert group.submit(new_event()).result(SECONDS)


@pytest.mark.parametrize("bound", ["number", "bytes"])
def test_what_waits_is_committed_in_batches_of_a_bounded_size(gated, make_group, monkeypatch, bound):
    """LED-14: a driver copies what it sends."""
    new = [new_event() for _ in range(7)]
    if bound == "number":
        monkeypatch.setattr(GroupCommit, "MAX_BATCH", 2)
    else:
        monkeypatch.setattr(GroupCommit, "MAX_BATCH_BYTES", len(new[0].payload) + 9)
    places = gather(make_group(gated), gated, new)
    gated.gate.set()
    assert None not in settled(places)
    assert gated.transactions == 1 + 3, "the first alone, then two at a time"


def test_one_that_is_larger_than_all_that_may_wait_is_taken_alone(database, make_group, monkeypatch):
    """LED-14: WEBHOOK_MAX_BYTES may be more."""
    monkeypatch.setattr(GroupCommit, "MAX_WAITING_BYTES", 1)
    assert make_group(database).submit(new_event()).result(SECONDS)


def test_commit_that_hangs_is_given_up(database, make_group, monkeypatch):
    """Everybody's delivery waits behind it: Stripe sends again."""
    if database.is_sqlite:
        pytest.skip("whoever waits there waits for its busy time-out")
    monkeypatch.setattr("billing.webhooks.group_commit.COMMIT_SECONDS", 0.2)
    with database.write() as other:
        other.exec_driver_sql("LOCK TABLE events IN EXCLUSIVE MODE")
        assert isinstance(outcome(make_group(database).submit(new_event())), LedgerUnavailable)


class Interrupt(BaseException):
    """Something like SystemExit."""


def test_interrupted_commit_leaves_nobody_waiting(gated, make_group):
    """LED-13, LED-50: the thread goes on."""
    gated.failing = Interrupt()
    gated.gate.set()
    group = make_group(gated)
    assert isinstance(outcome(group.submit(new_event())), LedgerUnavailable)
    gated.failing = None
    assert group.submit(new_event()).result(SECONDS)


@pytest.mark.parametrize("error", [ConnectionError, Interrupt])
def test_news_that_fail_keep_nobody_from_being_committed(database, make_group, error):
    """LED-50."""
    told = []

    def broken(batch):
        told.append(len(batch))
        raise error

    group = make_group(database, broken)
    for _ in range(3):
        assert group.submit(new_event()).result(SECONDS)
    wait_until(lambda: told == [1, 1, 1], "each is told")


def test_batch_whose_reader_fails_keeps_nobody_from_being_answered(database, gated, make_group):
    """LED-50."""

    def gone(future: Future) -> None:
        raise ConnectionError

    first, other = gather(make_group(gated), gated, [new_event(), new_event()])
    first.batch.add_done_callback(gone)
    gated.gate.set()
    assert other.result(SECONDS)


def test_closed_line_has_committed_what_waited_and_takes_more(database, gated, make_group):
    """LED-51: a process that is stopping answers what still comes."""
    group = make_group(gated)
    places = gather(group, gated, [new_event() for _ in range(3)])
    gated.gate.set()
    group.close()
    assert all(pending.batch.done() for pending in places)
    assert group.submit(new_event()).result(SECONDS)
    group.close()
    group.close()
    assert len(ids_in(database)) == 4


def _in_a_fork(group, answers):
    answers.send(group.submit(new_event(id="evt_child")).result(SECONDS) is not None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_fork_has_a_line_of_its_own(database, gated, make_group):
    """LED-50: its parent's thread is not there, and what waits is its parent's."""
    if not database.is_sqlite:
        pytest.skip("a connection to PostgreSQL does not outlive a fork")
    forked = threading.Event()
    group = make_group(database, lambda _: forked.wait(SECONDS))
    assert group.submit(new_event(id="evt_parent")).result(SECONDS)
    waiting = group.submit(new_event(id="evt_waiting"))
    fork = get_context("fork")
    ours, theirs = fork.Pipe()
    database.close()
    child = fork.Process(target=_in_a_fork, args=(group, theirs))
    child.start()
    assert ours.poll(SECONDS)
    assert ours.recv()
    child.join(SECONDS)
    assert ids_in(database) == ["evt_child", "evt_parent"]
    forked.set()
    assert waiting.result(SECONDS)


def test_hundred_threads_receive_through_one_line(database, queue, clock):
    """LED-13, LED-1: with signatures, duplicates and wake-ups."""
    ingest = Ingest(secrets=[SECRET], database=database, queue=queue, clock=clock, max_bytes=1 << 20)
    bodies = [deliver(build_event(id=f"evt_{number % 150}")) for number in range(300)]
    with ThreadPoolExecutor(32) as threads:
        places = list(threads.map(lambda delivery: ingest.submit(delivery[0], ingest.expect(0, delivery[1])), bodies))
    ingest.close()
    assert settled(places).count(None) == 150
    assert len(ids_in(database)) == 150
    assert set(queue.sent) == {WorkEvents()}


@pytest.mark.parametrize("count", [1, 2, 31, 128])
def test_ledger_is_asked_as_often_for_many_events_as_for_one(database, count):
    """WHK-90: one statement in PostgreSQL, which commits by itself; in SQLite a second one reads what came of it."""
    asked = []
    new = [new_event() for _ in range(count)]
    sa.event.listen(database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    assert None not in commit(database, new)
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
            kept = [getattr(row, name) for name in events_store.COLUMNS]
            assert kept == [getattr(event, name) for name in events_store.COLUMNS]
