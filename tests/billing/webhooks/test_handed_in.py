"""Deliveries that are handed in: whoever commits them answers them, and no thread waits meanwhile."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.errors import LedgerUnavailable
from billing.webhooks.group_commit import Delivery, GroupCommit
from billing.webhooks.ingest import hand_in
from tests.billing.webhooks.test_group_commit import Gated, ids_in, new_event, poison, record, until
from tests.support.builders import SECRET, build_event, deliver


class Answers:
    """What became of each delivery, by its event's id."""

    def __init__(self):
        self.by_id = {}

    def delivery(self, **event):
        """One that notes its answer."""
        return Delivery(new_event(**event), answer=self._note)

    def _note(self, delivery):
        assert delivery.event.event_id not in self.by_id, "answered twice"
        self.by_id[delivery.event.event_id] = delivery.error or delivery.row


@pytest.fixture
def gated(database):
    """The ledger behind a gate."""
    return Gated(database)


@pytest.fixture
def answers():
    """What became of them."""
    return Answers()


@pytest.fixture
def threads(gated):
    """For those who lead; a test that fails leaves none of them at the gate."""
    with ThreadPoolExecutor(8) as pool:
        yield pool
        gated.gate.set()


class Hanging:
    """News that take until they are told to end."""

    def __init__(self):
        self.begun, self.end = threading.Event(), threading.Event()

    def __call__(self, batch):
        self.begun.set()
        assert self.end.wait(10)


def no_news(batch):
    """Nothing to do after the commit."""


def begin(threads, group, gated, answers, news=no_news):
    """Have a first one lead and wait at the gate."""
    leader = threads.submit(group.hand_in, answers.delivery(id="evt_first"), news)
    until(lambda: gated.transactions == 1)
    return leader


def test_no_thread_waits_and_nobody_is_answered_before_the_commit(database, gated, answers, threads):
    """LED-50, LED-13: fifty of them are handed in by one thread while the ledger stands still."""
    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers)
    for number in range(50):
        group.hand_in(answers.delivery(id=f"evt_{number}"), no_news)
    assert answers.by_id == {}
    gated.gate.set()
    leader.result(10)
    assert gated.transactions == 2
    assert sorted(answers.by_id) == ids_in(database)
    assert len({row_id for row_id, _status in answers.by_id.values()}) == 51


def test_one_that_fails_fails_alone(database, gated, answers, threads, monkeypatch):
    """LED-13."""
    poison(monkeypatch)
    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers)
    for name in ("evt_a", "evt_poison", "evt_z"):
        group.hand_in(answers.delivery(id=name), no_news)
    gated.gate.set()
    leader.result(10)
    assert isinstance(answers.by_id.pop("evt_poison"), ZeroDivisionError)
    assert sorted(answers.by_id) == ids_in(database) == ["evt_a", "evt_first", "evt_z"]


def test_ledger_that_is_down_is_told_to_each(database, gated, answers, threads):
    """LED-13, LED-3: nothing is answered 2xx that was not committed."""
    gated.failing = LedgerUnavailable("gone")
    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers)
    for number in range(20):
        group.hand_in(answers.delivery(id=f"evt_{number}"), no_news)
    gated.gate.set()
    leader.result(10)
    assert len(answers.by_id) == 21
    assert {type(answer) for answer in answers.by_id.values()} == {LedgerUnavailable}
    assert ids_in(database) == []


def test_too_many_are_refused_at_once(gated, answers, threads, monkeypatch):
    """LED-14."""
    monkeypatch.setattr(GroupCommit, "MAX_WAITING", 3)
    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers)
    for _ in range(3):
        group.hand_in(answers.delivery(), no_news)
    with pytest.raises(LedgerUnavailable):
        group.hand_in(answers.delivery(), no_news)
    gated.gate.set()
    leader.result(10)
    assert len(answers.by_id) == 4


def test_one_that_cannot_be_answered_harms_no_other(database, gated, answers, threads):
    """LED-50."""

    def gone(delivery):
        raise ConnectionError

    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers)
    group.hand_in(Delivery(new_event(id="evt_gone"), answer=gone), no_news)
    group.hand_in(answers.delivery(id="evt_other"), no_news)
    gated.gate.set()
    leader.result(10)
    assert sorted(answers.by_id) == ["evt_first", "evt_other"]
    assert ids_in(database) == ["evt_first", "evt_gone", "evt_other"]


def test_those_who_wait_are_committed_though_the_news_of_others_fail(database, gated, answers, threads):
    """LED-50: nobody else comes to do it."""
    told = []

    def broken(batch):
        told.append(len(batch))
        raise ConnectionError

    group = GroupCommit(gated)
    leader = begin(threads, group, gated, answers, broken)
    group.hand_in(answers.delivery(id="evt_second"), no_news)
    gated.gate.set()
    with pytest.raises(ConnectionError):
        leader.result(10)
    assert told == [1, 1]
    assert sorted(answers.by_id) == ids_in(database) == ["evt_first", "evt_second"]


def test_news_that_hang_hold_up_nobody_who_comes_later(database, answers, threads):
    """LED-50: a Redis that takes the wake-ups and says nothing."""
    news = Hanging()
    group = GroupCommit(database)
    leader = threads.submit(group.hand_in, answers.delivery(id="evt_first"), news)
    assert news.begun.wait(10)
    group.hand_in(answers.delivery(id="evt_soon"), no_news)  # the leader may be back in a moment
    time.sleep(group.NEWS_SECONDS)  # for so long he is waited for
    group.hand_in(answers.delivery(id="evt_later"), no_news)
    assert sorted(answers.by_id) == ids_in(database) == ["evt_first", "evt_later", "evt_soon"]
    news.end.set()
    leader.result(10)
    group.hand_in(answers.delivery(id="evt_last"), no_news)
    assert "evt_last" in answers.by_id


def test_news_that_hang_hold_up_no_thread_that_waits(database, threads):
    """LED-50: where deliveries wait in their threads, the next one leads at once."""
    news = Hanging()
    group = GroupCommit(database)
    leader = threads.submit(group.record, Delivery(new_event()), news)
    assert news.begun.wait(10)
    assert threads.submit(record, group, new_event()).result(5)
    news.end.set()
    assert leader.result(10)


def test_interrupted_commit_leaves_nobody_waiting(gated, answers):
    """LED-13."""

    class Interrupt(BaseException):
        """Something like SystemExit."""

    gated.failing = Interrupt()
    gated.gate.set()
    group = GroupCommit(gated)
    with pytest.raises(Interrupt):
        group.hand_in(answers.delivery(id="evt_1"), no_news)
    assert isinstance(answers.by_id["evt_1"], LedgerUnavailable)
    gated.failing = None
    group.hand_in(answers.delivery(id="evt_2"), no_news)
    assert "evt_2" in answers.by_id


def test_with_threads_that_wait_among_them_everybody_is_answered(database, answers):
    """LED-50, WHK-92: forty of each, in any order."""
    group = GroupCommit(database)

    def one(number):
        if number % 2:
            return record(group, new_event(id=f"evt_{number}"))
        return group.hand_in(answers.delivery(id=f"evt_{number}"), no_news)

    with ThreadPoolExecutor(16) as pool:
        rows = [row for row in pool.map(one, range(80)) if row]
    until(lambda: len(answers.by_id) == 40)
    assert len(rows) == 40
    assert len(ids_in(database)) == 80


def test_each_is_told_whether_it_was_new(database, queue, clock):
    """LED-50, LED-1: with signatures, duplicates and wake-ups."""
    told = []
    means = {"secrets": [SECRET], "queue": queue, "clock": clock, "max_bytes": 1 << 20}
    group = GroupCommit(database)
    bodies = [deliver(build_event(id=f"evt_{number % 150}")) for number in range(300)]

    def one(delivery):
        hand_in(*delivery, together=group, request_id="req_1", answer=told.append, **means)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, bodies))
    until(lambda: len(told) == 300)
    assert (told.count("recorded"), told.count("duplicate")) == (150, 150)
    assert {job.about for job in queue.sent} == {"cus_1"}
