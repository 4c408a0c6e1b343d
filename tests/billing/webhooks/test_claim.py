"""Claims: one worker at a time for a customer, one fetch for what came during the last one, and a rest between."""

from contextlib import nullcontext
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Notify, WorkEvents
from billing.errors import StripeRefused, StripeUnclear
from billing.maintenance.sweep import sweep
from billing.models import events
from billing.rules.lease import LEASE
from billing.webhooks import claim as claims
from billing.webhooks import events_store
from billing.webhooks.claim import REST, claim
from tests.support.builders import build_event, build_subscription
from tests.support.working import work_due

PAID = ("checkout.session.completed", {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"})


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


# --- one at a time


@pytest.mark.parametrize("analysed", [False, True])
def test_what_a_claim_asks_of_a_customer_is_answered_by_that_customers_rows(database, clock, analysed):
    """LED-24: also in a ledger that nobody has analysed."""
    now, asked = clock.now(), []
    times = dict.fromkeys(("next_attempt_at", "created_at", "received_at"), now)
    row = {"livemode": False, "type": "invoice.paid", "status": "pending", "payload": b"x" * 500, **times}
    rows = [{**row, "event_id": f"evt_{number}", "customer_id": f"cus_{number // 10}"} for number in range(1000)]
    with database.write() as connection:
        connection.execute(sa.insert(events), rows)
        if analysed:
            connection.exec_driver_sql("ANALYZE")

    def note(_connection, _cursor, statement, values, *_others):
        asked.append((statement, values))

    with database.write() as connection:
        sa.event.listen(connection, "before_cursor_execute", note)
        assert len(claim(connection, now=now).ids) == 10
        find, values = asked[0]
        explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
        plan = connection.exec_driver_sql(f"{explain} {find}", values).all()
        take, values = asked[1]
        taking = connection.exec_driver_sql(f"{explain} {take}", values).all()
    # Twice: for the customer who is taken, and for whether there is another one.
    assert str(plan).count("ix_events_customer_id_claimed_until") == 2, plan
    # Three questions each about what else waits for that customer; all that waits is read for none of them.
    assert str(plan).count("ix_events_customer_id_status") == 6, plan
    assert "ix_events_customer_id_status" in str(taking), taking
    assert "ix_events_status_next_attempt_at" not in str(taking), taking


def test_events_that_came_during_a_fetch_are_left_to_one_following_fetch(stripe, record, work, during, statuses):
    """WHK-74, WHK-77, LED-40: whoever is woken for them meanwhile finds the customer held, and goes."""
    stripe.put(build_subscription())
    record(build_event())

    def three_more():
        for _ in range(3):
            record(build_event())
            work()
        assert stripe.calls == {"list_subscriptions": 1}

    during(three_more)
    work()
    assert statuses() == ["done"] * 4
    assert stripe.calls == {"list_subscriptions": 2}


@pytest.mark.parametrize(
    ("error", "ends"),
    [
        (StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer"), "dead"),
        (StripeUnclear("busy", status=503, retry_after=60), "pending"),
    ],
    ids=["refused", "put off for long"],
)
def test_what_came_during_a_failure_does_not_wait_for_its_retry(stripe, record, work, during, statuses, error, ends):
    """WHK-74, LED-11."""
    stripe.put(build_subscription())
    record(build_event())

    def fail():
        record(build_event())
        raise error

    during(fail)
    work()
    assert statuses() == [ends, "done"]


def test_killed_workers_customer_is_taken_over_when_its_lease_has_ended(database, record, work, statuses, clock, queue):
    """LED-40, W2: also the events that came after it was killed; the sweep finds them."""
    record(build_event()), record(build_event())
    with database.write() as connection:
        assert len(claim(connection, now=clock.now()).events) == 2
    record(build_event())
    work()
    assert statuses() == ["pending"] * 3
    clock.advance(seconds=LEASE.total_seconds())
    queue.sent.clear()
    sweep(database=database, queue=queue, clock=clock)
    assert queue.sent == [WorkEvents()]
    work()
    assert statuses() == ["done"] * 3


def test_lease_by_a_clock_that_is_ahead_holds_nobody_up(database, record, work, statuses, clock):
    """LED-40; fault 30: a worker whose clock is two hours ahead was killed."""
    record(build_event())
    with database.write() as connection:
        assert claim(connection, now=clock.now() + 300 * LEASE).events
    work(record(build_event()))
    assert statuses() == ["done", "done"]


def test_of_two_workers_that_claim_at_once_one_gets_the_customer(database, record, clock):
    """LED-40: neither sees what the other one takes before it commits; the second one goes on to another customer."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    first = record(build_event())
    with database.write() as one:
        assert claim(one, now=clock.now()).ids == [first]
        record(build_event())
        other = record(build_event(subject=build_subscription(customer="cus_2")))
        with database.write() as two:
            assert claim(two, now=clock.now()).ids == [other]
            assert claim(two, now=clock.now()).ids == []


def test_claim_that_lost_what_it_had_found_takes_the_next_customer(database, record, clock, monkeypatch):
    """LED-2: another worker's claim was committed in between."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    record(build_event())
    other = record(build_event(subject=build_subscription(customer="cus_2")))
    real = claims.Prepared.run

    def overtaken(self, connection, now, **values):
        answer = real(self, connection, now, **values)
        if not values:  # it has found the first customer, and has the lock, which a claim before the lock's time lacks
            monkeypatch.undo()
            with database.write() as faster:
                row = {"customer": "cus_1", "token": "faster"}
                assert claims._take("customer", "postgresql").run(faster, now, **row).all()
        return answer

    monkeypatch.setattr(claims.Prepared, "run", overtaken)
    with database.write() as connection:
        assert claim(connection, now=clock.now()).ids == [other]


def test_dispute_whose_customer_was_found_at_this_moment_is_not_taken_beside_the_customers_worker(
    database, record, clock, monkeypatch
):
    """LED-40: its worker found out whose it is after a second worker, by a clock that is ahead, had looked."""
    record(build_event())
    dispute = record(build_event("charge.dispute.created", {"id": "dp_1", "object": "dispute", "charge": "ch_1"}))
    with database.write() as connection:
        holder, finder = claim(connection, now=clock.now()), claim(connection, now=clock.now())
    assert finder.ids == [dispute]
    real = claims.Prepared.run
    with database.write() as connection:

        def find(self, on, now, **values):
            answer = real(self, on, now, **values)
            monkeypatch.undo()
            # SQLite has one writer at a time: there it can only be done in our own transaction.
            with nullcontext(connection) if database.is_sqlite else database.write() as first:
                events_store.note_customer(first, dispute, token=finder.token, customer_id="cus_1")
                events_store.renew(first, holder.ids, token=holder.token, now=clock.now() + LEASE)
            return answer

        monkeypatch.setattr(claims.Prepared, "run", find)
        assert claim(connection, now=clock.now() + LEASE).ids == []


def test_takeover_counts_as_a_failure_and_a_claim_does_not(database, record, clock):
    """LED-7."""
    record(build_event())
    for failures in range(3):
        with database.write() as connection:
            assert [event.attempts for event in claim(connection, now=clock.now()).events] == [failures]
        clock.advance(seconds=LEASE.total_seconds())


# --- more hands


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


# --- a rest between


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
    stripe, record, work, clock, delays, came, now, due
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
