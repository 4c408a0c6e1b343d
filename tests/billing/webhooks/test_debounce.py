"""The rest between two fetches of a customer, and the wake-ups that are sent for later."""

from datetime import timedelta

import pytest

from billing.coordination.jobs import Notify, WorkEvents
from billing.errors import StripeUnclear
from billing.webhooks.claim import REST
from tests.support.builders import build_event, build_subscription
from tests.support.working import work_due

PAID = ("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"})


class Delays:
    """A queue that keeps the delays of what was sent."""

    def __init__(self):
        self.sent = []

    def send(self, job, *, delay_seconds=0):
        if job != Notify():  # of a sync
            assert job == WorkEvents()
            self.sent.append(round(delay_seconds, 2))


@pytest.fixture
def delays(database, stripe, clock):
    """Work one wake-up; the delays of the wake-ups that it sent."""

    def delays():
        queue = Delays()
        work_due(database=database, stripe=stripe, clock=clock, queue=queue)
        return queue.sent

    return delays


def test_one_more_wake_up_goes_out_before_the_work_while_another_customer_waits(stripe, record, during, delays):
    """LED-23: and none for the same customer's other events, nor for one who rests or is held."""
    for customer in ("cus_1", "cus_1", "cus_2", "cus_3"):
        record(build_event(subject=build_subscription(customer=customer)))
    assert delays() == [0, 0], "for the second and the third"


def test_slice_that_is_over_sends_one_wake_up(database, record, stripe, clock):
    """LED-23: what is left is another message's."""
    record(build_event())
    queue = Delays()
    work_due(database=database, stripe=stripe, clock=clock, queue=queue, stop=lambda: True)
    assert queue.sent == [0]


def test_customer_who_was_fetched_just_now_rests_and_one_wake_up_is_sent_for_later(
    stripe, record, work, statuses, clock, delays
):
    """WHK-75, WHK-77: whatever comes within the second is worked together."""
    stripe.put(build_subscription())
    work(record(build_event()))
    clock.advance(seconds=0.4)
    for _ in range(3):
        record(build_event())
        assert delays() == [0.61]
    assert statuses() == ["done", "pending", "pending", "pending"]
    clock.advance(seconds=0.61)
    assert delays() == []
    assert statuses() == ["done"] * 4
    assert stripe.calls == {"list_subscriptions": 2}


@pytest.mark.parametrize(
    ("came", "now", "due"),
    [
        ([0.2, 0.3], 0.4, 1.0),
        ([0.2, 0.9], 0.9, 1.4),
        ([0.5, 1.1], 1.1, 1.6),
        ([0.5, 1.1], 1.3, 1.6),
        ([0.5, 1.8], 1.8, 2.0),
    ],
)
def test_rest_ends_half_a_second_after_the_last_event_and_after_two_seconds_at_most(
    stripe, record, work, clock, delays, statuses, came, now, due
):
    """WHK-75, WHK-98: seconds since the customer was fetched; the one wake-up comes when the rest is over."""
    stripe.put(build_subscription())
    work(record(build_event()))
    begun = clock.now()
    for moment in came:
        clock.time = begun + timedelta(seconds=moment)
        record(build_event())
    clock.time = begun + timedelta(seconds=now)
    assert delays() == [round(due - now + 0.01, 2)]
    assert statuses() == ["done", "pending", "pending"]
    clock.time = begun + timedelta(seconds=due + 0.01)
    assert delays() == []
    assert statuses() == ["done"] * 3


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
def test_dozen_events_of_a_payment_cost_two_fetches(stripe, record, statuses, clock, delays, name):
    """WHK-98, WHK-75: each fetch takes a tenth of a second; a message is worked when it is due."""
    moments, most = BURSTS[name]
    stripe.put(build_subscription())
    begun, fetches = clock.now(), []
    due = [(moment, True) for moment in moments]

    def take_time(_name):
        fetches.append((clock.now() - begun).total_seconds())
        clock.advance(seconds=0.1)

    stripe.before_arrival = take_time
    while due:
        due.sort()
        moment, comes = due.pop(0)
        clock.time = max(clock.time, begun + timedelta(seconds=moment))
        if comes:
            record(build_event())
        sent = delays()
        clock.advance(seconds=0.001)  # else it stands still, of which WHK-76 says something else
        now = (clock.now() - begun).total_seconds()
        due += [(now + delay, False) for delay in sent]
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
    work(record(build_event()))
    assert statuses() == ["done", "pending"]
    work(record(build_event(*PAID)))
    assert statuses() == ["done"] * 3


def test_buyer_who_paid_during_a_fetch_that_failed_does_not_wait_for_its_retry(
    stripe, record, work, during, statuses, clock
):
    """WHK-76, WHK-74."""
    stripe.put(build_subscription())
    record(build_event())

    def fail():
        record(build_event(*PAID))
        raise StripeUnclear("busy")

    during(fail)
    work()
    assert statuses() == ["pending", "done"]


def test_wake_up_while_a_customer_rests_for_whom_nothing_waits_sends_no_other(record, work, clock, delays):
    """WHK-75."""
    work(record(build_event()))
    clock.advance(seconds=0.1)
    assert delays() == []


def test_what_was_tried_before_waits_for_the_rest_like_others(stripe, record, work, statuses, clock, during):
    """WHK-76: whoever waited for the end of a payment page no longer does."""
    record(build_event(*PAID))

    def fail():
        raise StripeUnclear("busy")

    during(fail)
    work()
    clock.advance(seconds=0.4)
    work(record(build_event()))
    clock.advance(seconds=0.8)
    work()
    assert statuses() == ["pending", "done"]
    clock.advance(seconds=0.2)
    work()
    assert statuses() == ["done", "done"]


def test_one_that_is_put_off_for_long_keeps_no_other_waiting(stripe, record, work, statuses, clock, during):
    """WHK-76: it waits for its retry, and not for the customer's rest."""
    stripe.put(build_subscription())
    record(build_event())

    def fail():
        raise StripeUnclear("busy", status=503, retry_after=60)

    during(fail)
    work()
    clock.advance(seconds=5)
    work(record(build_event()))
    clock.advance(seconds=1.2)
    work(record(build_event()))
    assert statuses() == ["pending", "done", "done"]
