"""A customer's turn: one worker at a time, one fetch for what came during the last one, and a rest between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import timedelta

import pytest

from billing.errors import StripeRefused, StripeUnclear
from billing.jobs import ProcessEvent
from billing.maintenance.sweep import sweep
from billing.webhooks import events_store
from billing.webhooks.debounce import REST
from billing.webhooks.process import LEASE, process_event
from tests.support.builders import CATALOG, build_event, build_subscription


@pytest.fixture
def during(stripe):
    """Do this once, while the next answer is on its way."""

    def during(what):
        def step_in(_name):
            stripe.before_arrival = lambda _name: None
            what()

        stripe.before_arrival = step_in

    return during


class Delays:
    """A queue that keeps what was sent with its delay."""

    def __init__(self):
        self.sent = []

    def send(self, job, *, delay_seconds=0):
        self.sent.append((job, round(delay_seconds, 2), job.about))

    def send_all(self, jobs):
        for job in jobs:
            self.send(job)


# --- one at a time


def test_events_that_came_during_a_fetch_are_left_to_one_following_fetch(stripe, record, work, during, statuses, queue):
    """WHK-74, WHK-77, LED-40: whoever is woken for them meanwhile finds the customer held, and goes."""
    stripe.put(build_subscription())
    first, late = record(build_event()), []

    def three_more():
        for _ in range(3):
            late.append(record(build_event()))
            work(late[-1])
        assert stripe.calls == {"list_subscriptions": 1}
        queue.sent.clear()

    during(three_more)
    work(first)
    assert statuses() == ["done", "pending", "pending", "pending"]
    assert [job.row_id for job in queue.sent] == [late[0]], "who is done wakes the next one"
    work(late[0])
    assert statuses() == ["done"] * 4
    assert stripe.calls == {"list_subscriptions": 2}


@pytest.mark.parametrize(
    ("error", "waits"),
    [
        (StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer"), "dead"),
        (StripeUnclear("busy", status=429, retry_after=60), "pending"),
        (ZeroDivisionError(), "pending"),
    ],
    ids=["refused", "put off for long", "bug"],
)
def test_failure_wakes_those_who_found_the_customer_held(stripe, record, work, during, statuses, queue, error, waits):
    """WHK-74, LED-11: else they would wait for the sweep, behind an event that is not theirs."""
    stripe.put(build_subscription())
    first, late = record(build_event()), []

    def fail():
        late.append(record(build_event()))
        work(late[0])
        queue.sent.clear()
        raise error

    during(fail)
    if isinstance(error, ZeroDivisionError):
        with pytest.raises(ZeroDivisionError):
            work(first)
        assert queue.sent == [ProcessEvent(first)], "a second later, for both"
    else:
        work(first)
        assert queue.sent == [ProcessEvent(late[0])]
    work(late[0])
    assert statuses() == [waits, "done"]


def test_buyer_who_paid_during_a_fetch_that_failed_does_not_wait_for_its_retry(
    stripe, record, work, during, statuses, queue, clock
):
    """WHK-76, WHK-74: and where that fails, too, nobody is woken but for its own retry."""
    stripe.put(build_subscription())
    first, late = record(build_event()), []
    paid = build_event("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"})

    def fail():
        if not late:
            late.append(record(paid))
            work(late[0])
        queue.sent.clear()
        raise StripeUnclear("busy")

    during(fail)
    work(first)
    assert queue.sent == [ProcessEvent(first), ProcessEvent(late[0])]
    during(fail)
    work(late[0])
    assert queue.sent == [ProcessEvent(late[0])]
    clock.advance(seconds=1)
    work(first)
    assert statuses() == ["done"] * 2


def test_killed_workers_customer_is_taken_over_when_its_lease_has_ended(
    database, record, work, statuses, clock, queue, stripe
):
    """LED-40, W2: also the events that came after it was killed; the sweep finds them."""
    killed, late = record(build_event()), record(build_event())
    with database.write() as connection:
        taken = events_store.claim(connection, killed, token="killed", now=clock.now(), until=clock.now() + LEASE)
    assert len(taken) == 2
    later = record(build_event())
    work(later)
    assert (statuses(), stripe.calls) == (["pending"] * 3, {})
    clock.advance(seconds=LEASE.total_seconds())
    queue.sent.clear()
    sweep(database=database, queue=queue, clock=clock)
    for job in list(queue.sent):
        work(job.row_id)
    assert statuses() == ["done"] * 3
    assert late < later


def test_lease_by_a_clock_that_is_ahead_holds_nobody_up(database, record, work, statuses, clock):
    """LED-40; fault 30: a worker whose clock is two hours ahead was killed."""
    ahead = clock.now() + 300 * LEASE
    row = record(build_event())
    with database.write() as connection:
        assert events_store.claim(connection, row, token="ahead", now=ahead, until=ahead + LEASE)
    work(record(build_event()))
    assert statuses() == ["done", "done"]


def test_of_two_workers_that_claim_at_once_one_gets_the_customer(database, record, clock):
    """LED-40: neither would see what the other one takes before it commits."""
    first, until = record(build_event()), clock.now() + LEASE
    taken, go_on = threading.Event(), threading.Event()

    def claim(row, token):
        with database.write() as connection:
            found = events_store.claim(connection, row, token=token, now=clock.now(), until=until)
            taken.set()
            assert go_on.wait(10)
            return [event.id for event in found]

    with ThreadPoolExecutor(2) as threads:
        one = threads.submit(claim, first, "one")
        assert taken.wait(10)
        if database.is_sqlite:  # one writer: nothing can be recorded meanwhile
            two = threads.submit(claim, first, "two")
        else:
            two = threads.submit(claim, record(build_event()), "two")
        with pytest.raises(TimeoutError):
            two.result(timeout=0.3)  # it stands in line for the customer
        go_on.set()
        assert (one.result(), two.result()) == ([first], [])


def test_dispute_whose_customer_was_found_at_this_moment_is_not_taken_beside_the_customers_worker(
    database, record, clock, monkeypatch
):
    """LED-40: two messages for it; the first one's worker found out whose it is after the second one's had looked."""
    disputed = {"id": "dp_1", "object": "dispute", "charge": "ch_1"}
    rows = {"holder": record(build_event()), "finder": record(build_event("charge.dispute.created", disputed))}
    times, real = {"now": clock.now(), "until": clock.now() + LEASE}, events_store.waits
    with database.write() as connection:
        for token, row in rows.items():
            assert len(events_store.claim(connection, row, token=token, **times)) == 1
    with database.write() as connection:

        def find(now):
            monkeypatch.undo()
            # SQLite has one writer at a time: there it can only be done in our own transaction.
            with nullcontext(connection) if database.is_sqlite else database.write() as first:
                assert events_store.note_customer(first, rows["finder"], token="finder", customer_id="cus_1")
            return real(now)

        monkeypatch.setattr(events_store, "waits", find)
        assert events_store.claim(connection, rows["finder"], token="second", **times) == []


# --- a rest between


def test_customer_who_was_fetched_just_now_rests_and_one_wake_up_is_sent_for_later(
    database, stripe, record, work, statuses, clock
):
    """WHK-75, WHK-77, LED-23: whatever comes within the second is worked together."""
    stripe.put(build_subscription())
    work(record(build_event()))
    clock.advance(seconds=0.4)
    rows, delays = [record(build_event()) for _ in range(3)], Delays()
    places = {"database": database, "queue": delays, "clock": clock, "catalog": CATALOG}
    for row in rows:
        process_event(row, stripe=stripe, **places)
    assert statuses() == ["done", "pending", "pending", "pending"]
    assert delays.sent == [(ProcessEvent(row), 0.61, "cus_1:later") for row in rows]
    clock.advance(seconds=0.61)
    process_event(rows[0], stripe=stripe, **places)
    assert statuses() == ["done"] * 4
    assert stripe.calls == {"list_subscriptions": 2}


# When they come, in seconds, and how many fetches they may cost.
BURSTS = {
    "even": ([number * 1.8 / 11 for number in range(12)], 2),
    "at once, and one long after": ([0.0] * 11 + [1.8], 3),
    "later and later": ([1.8 * (number / 11) ** 2 for number in range(12)], 2),
    "sooner and sooner": ([1.8 * (number / 11) ** 0.5 for number in range(12)], 2),
    "two": ([0.0, 0.2], 2),
    "observed": ([0.0, 0.05, 0.2, 0.3, 1.0, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.8], 2),
    "for ten seconds": ([number / 4 for number in range(40)], 7),
}


@pytest.mark.parametrize("name", BURSTS)
def test_dozen_events_of_a_payment_cost_two_fetches(database, stripe, record, statuses, clock, name):
    """WHK-98, WHK-75: each fetch takes a tenth of a second; a message is worked when it is due."""
    moments, most = BURSTS[name]
    stripe.put(build_subscription())
    begun, waiting, fetches = clock.now(), Delays(), []
    places = {"database": database, "queue": waiting, "clock": clock, "catalog": CATALOG}
    due = [(moment, None) for moment in moments]

    def take_time(_name):
        fetches.append((clock.now() - begun).total_seconds())
        clock.advance(seconds=0.1)

    stripe.before_arrival = take_time
    while due:
        due.sort(key=lambda one: one[0])
        moment, row = due.pop(0)
        clock.time = max(clock.time, begun + timedelta(seconds=moment))
        process_event(record(build_event()) if row is None else row, stripe=stripe, **places)
        clock.advance(seconds=0.001)  # else it stands still, of which WHK-76 says something else
        now = (clock.now() - begun).total_seconds()
        due += [(now + delay, job.row_id) for job, delay, _ in waiting.sent]
        waiting.sent.clear()
    assert statuses() == ["done"] * len(moments)
    assert fetches[0] == 0
    assert len(fetches) <= most
    assert fetches[-1] + 0.1 <= moments[-1] + 1.2


def test_customer_who_has_rested_is_worked_at_once(stripe, record, work, statuses, clock):
    """WHK-76: and another customer in any case."""
    stripe.put(build_subscription(), {"id": "cus_2", "object": "customer"})
    work(record(build_event()))
    clock.advance(seconds=0.1)
    work(record(build_event(subject=build_subscription(customer="cus_2"))))
    clock.advance(seconds=REST.total_seconds() - 0.1)
    work(record(build_event()))
    assert statuses() == ["done"] * 3


@pytest.mark.parametrize("seconds", [0, 7200])
def test_fetch_that_another_clock_dated_later_is_no_reason_to_wait(stripe, record, work, statuses, clock, seconds):
    """WHK-76; fault 30."""
    work(record(build_event()))
    clock.advance(seconds=-seconds)
    work(record(build_event()))
    assert statuses() == ["done"] * 2


def test_end_of_a_payment_page_waits_for_nothing(stripe, record, work, statuses, clock):
    """WHK-76: the customer was changed a moment before they paid; what waits is worked with it."""
    work(record(build_event("customer.updated", {"id": "cus_1", "object": "customer"})))
    clock.advance(seconds=0.1)
    waiting = record(build_event())
    work(waiting)
    assert statuses() == ["done", "pending"]
    paid = build_event("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"})
    record(paid)
    work(waiting)
    assert statuses() == ["done"] * 3


def test_late_wake_up_of_a_resting_customer_sends_no_other(database, stripe, record, work, clock):
    """WHK-75: nothing waits for it."""
    row, delays = record(build_event()), Delays()
    work(row)
    clock.advance(seconds=0.1)
    process_event(row, database=database, stripe=stripe, queue=delays, clock=clock, catalog=CATALOG)
    assert delays.sent == []


def test_what_was_tried_before_waits_for_the_rest_like_others(stripe, record, work, statuses, clock, during):
    """WHK-76: whoever waited for the end of a payment page no longer does."""
    paid = build_event("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"})
    row = record(paid)

    def fail():
        raise StripeUnclear("busy")

    during(fail)
    work(row)
    clock.advance(seconds=0.4)
    work(record(build_event()))
    clock.advance(seconds=0.8)
    work(row)
    assert statuses() == ["pending", "done"]
    clock.advance(seconds=0.2)
    work(row)
    assert statuses() == ["done", "done"]
