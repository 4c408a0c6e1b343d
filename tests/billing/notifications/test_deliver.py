"""Notifications: what the application hears, in which order, and what becomes of what it does not take."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.clock import iso
from billing.models import outbox
from billing.notifications import deliver
from billing.notifications import store as outbox_store
from billing.notifications.deliver import GIVE_UP, NotifyReport, notify
from billing.notifications.senders import LogNotifier, NotDelivered
from billing.notifications.store import MOST_KEPT
from billing.operators.notifications import show_message
from billing.rules.lease import LEASE
from billing.subscriptions import projection_store
from tests.support.builders import NOON, MovableClock
from tests.support.crashing import Crash


class Application:
    """An application that keeps what it was told, or answers something else."""

    def __init__(self):
        self.heard = []
        self.refuse = lambda body: False

    def send(self, message_id, body, *, at):
        """Take a message."""
        if self.refuse(body):
            raise NotDelivered("The application answered 500.", status=500)
        self.heard.append((message_id, body))
        return 200

    @property
    def numbers(self):
        """What was heard, by number."""
        return [body["data"]["number"] for _, body in self.heard]


@pytest.fixture
def application():
    """The application."""
    return Application()


@pytest.fixture
def note(database, clock):
    """Note a change for a customer."""

    def note(number, customer_id="cus_1"):
        with database.write() as connection:
            change = {"kind": "subscription.updated", "payload": {"number": number}, "now": clock.now()}
            projection_store.note_change(connection, customer_id=customer_id, **change)

    return note


@pytest.fixture
def send(database, clock, application):
    """One round."""
    return lambda **instead: notify(**{"database": database, "notifier": application, "clock": clock} | instead)


def rows_of(database):
    """The outbox."""
    with database.read() as connection:
        return connection.execute(sa.select(outbox).order_by(outbox.c.id)).all()


def test_changes_are_sent_once_and_in_order(note, send, application, database):
    """NTF-1."""
    for number in range(5):
        note(number)
    assert send() == NotifyReport(delivered=5)
    assert send() == NotifyReport()
    assert application.numbers == [0, 1, 2, 3, 4]
    [message_id, body] = application.heard[0]
    assert body == {"type": "subscription.updated", "timestamp": "2026-06-01T12:00:00Z", "data": {"number": 0}}
    [first, *_] = rows_of(database)
    assert (first.message_id, first.status, first.delivered_at, first.attempts) == (message_id, "delivered", NOON, 1)


def test_customers_later_change_waits_for_the_earlier_one(note, send, application, clock):
    """NTF-1: and other customers do not wait."""
    note(1), note(2), note(3, "cus_2")
    application.refuse = lambda body: body["data"]["number"] == 1
    assert send() == NotifyReport(delivered=1, postponed=1)
    assert application.numbers == [3]
    application.refuse = lambda body: False
    assert send() == NotifyReport()
    clock.advance(seconds=5)
    assert send() == NotifyReport(delivered=2)
    assert application.numbers == [3, 1, 2]


def test_refused_change_is_sent_again_later_and_later_under_the_same_id(note, send, application, clock, database):
    """NTF-2, NTF-3."""
    note(1)
    ids = set()
    application.refuse = lambda body: True
    for attempt in range(12):
        assert send() == NotifyReport(postponed=1)
        [row] = rows_of(database)
        longest = min(5 * 2**attempt, 3600)
        assert longest / 2 <= (row.next_attempt_at - clock.now()).total_seconds() <= longest
        assert (row.status, row.error, row.attempts) == ("pending", "The application answered 500.", attempt + 1)
        ids.add(row.message_id)
        clock.time = row.next_attempt_at
    application.refuse = lambda body: False
    send()
    assert {message_id for message_id, _ in application.heard} == ids


def test_change_is_given_up_after_three_days_and_the_next_has_its_turn(note, send, application, clock, database):
    """NTF-3."""
    note(1)
    application.refuse = lambda body: body["data"]["number"] == 1
    send()
    clock.advance(seconds=GIVE_UP.total_seconds() - 1)
    note(2)
    assert send() == NotifyReport(postponed=1)
    clock.advance(hours=1)
    assert send() == NotifyReport(given_up=1, delivered=1)
    assert application.numbers == [2]
    assert [row.status for row in rows_of(database)] == ["dead", "delivered"]
    with database.read() as connection:
        assert outbox_store.count_untaken(connection) == 1


def test_workers_at_once_send_each_change_once_and_in_order(note, send, application):
    """NTF-2, NTF-1."""
    for number in range(20):
        note(number, f"cus_{number % 2}")
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: send(), range(8)))
    send()
    assert sorted(application.numbers) == list(range(20))
    for customer in (0, 1):
        own = [number for number in application.numbers if number % 2 == customer]
        assert own == sorted(own)


def test_change_of_a_killed_worker_is_sent_when_its_lease_ends(note, send, application, database, clock):
    """NTF-2."""
    note(1)
    with database.write() as connection:
        [message] = outbox_store.due(connection, now=clock.now(), limit=1)
        assert outbox_store.claim(connection, message, token="killed", now=clock.now())
    assert send() == NotifyReport()
    clock.advance(seconds=LEASE.total_seconds())
    assert send() == NotifyReport(delivered=1)


def test_change_of_a_killed_worker_whose_clock_was_ahead_is_not_held_for_hours(note, send, application, database):
    """OPS-71, NTF-2: six hours ahead; killed while it sends the first of two."""
    note(1), note(2)

    def die(_body):
        raise Crash

    application.refuse = die
    with pytest.raises(Crash):
        send(clock=MovableClock(NOON + timedelta(hours=6)))
    application.refuse = lambda body: False
    assert send() == NotifyReport(delivered=2)
    assert application.numbers == [1, 2]
    assert [row.attempts for row in rows_of(database)] == [1, 1], "what was killed is no failed attempt"


def test_worker_that_lost_its_claim_notes_nothing(note, send, application, database, clock):
    """NTF-2."""
    note(1)

    def lose(_body):
        clock.advance(seconds=LEASE.total_seconds())
        with database.write() as connection:
            [message] = outbox_store.due(connection, now=clock.now(), limit=1)
            assert outbox_store.claim(connection, message, token="successor", now=clock.now())
        return True

    application.refuse = lose
    send()
    assert [(row.status, row.error, row.attempts) for row in rows_of(database)] == [("pending", None, 0)]


def test_round_that_is_stopped_says_that_more_waits(note, send, application):
    """NTF-9: so that its task sends a wake-up for the rest."""
    for number in range(5):
        note(number)
    assert send(stop=lambda: len(application.heard) == 3) == NotifyReport(delivered=3, unfinished=True)
    assert send() == NotifyReport(delivered=2)


def test_round_sends_more_than_one_read_finds(note, send, monkeypatch, application):
    """NTF-9: also where nothing that it read was delivered."""
    monkeypatch.setattr(deliver, "BATCH", 2)
    application.refuse = lambda body: body["data"]["number"] < 4
    for number in range(7):
        note(number, f"cus_{number}")
    assert send() == NotifyReport(delivered=3, postponed=4)


def test_without_an_address_changes_are_only_logged(note, send):
    """NTF-3: they do not pile up for the day on which somebody sets one."""
    note(1)
    assert send(notifier=LogNotifier()) == NotifyReport(delivered=1)


def test_last_tries_are_kept_with_their_time_duration_and_answer(note, send, application, database, clock):
    """NTF-30: the oldest go, and an operator sees them."""
    note(1)
    message_id = rows_of(database)[0].message_id
    application.refuse = lambda body: True
    for _ in range(MOST_KEPT + 2):
        send()
        clock.advance(hours=2)
    application.refuse = lambda body: False
    send()
    [row] = rows_of(database)
    assert (row.attempts, len(row.history)) == (MOST_KEPT + 3, MOST_KEPT)
    shown = show_message(message_id, database=database)["history"]
    assert [one["error"] for one in shown] == ["The application answered 500."] * (MOST_KEPT - 1) + [None]
    assert [one["status"] for one in shown[-2:]] == [500, 200]
    assert shown[-1]["at"] == iso(clock.now())
    assert all(one["seconds"] >= 0 for one in shown)
