"""Events whose work fails: when they come back, when they are dead, and that they keep nobody waiting."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.clock import iso
from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import InlineQueue
from billing.errors import (
    StripeBusy,
    StripeMisconfigured,
    StripeUnclear,
)
from billing.maintenance.replay import replay_few
from billing.maintenance.replay_store import EventFilter
from billing.models import events
from billing.operators.events import show_event
from billing.rules.lease import LEASE
from billing.webhooks import events_store
from billing.webhooks.claim import claim
from billing.webhooks.events_store import MOST_KEPT
from billing.webhooks.process import MAX_FAILURES
from tests.support.builders import build_event, build_subscription
from tests.support.fakes import REFUSED, failing


def test_failed_event_comes_back_later_and_later(stripe, record, work, read, queue, clock):
    """LED-7, faults row 31."""
    stripe.before_arrival = failing(StripeUnclear("Stripe gave no clear answer (status 503).", status=503))
    row = record(build_event())
    waits = []
    for _ in range(14):
        work(row)
        [event] = read(events)
        assert (event.status, event.claim, event.error) == (
            "pending",
            None,
            "Stripe gave no clear answer (status 503).",
        )
        waits.append((event.next_attempt_at - clock.now()).total_seconds())
        calls = stripe.calls.total()
        work(row)  # too early: nothing
        assert stripe.calls.total() == calls
        clock.time = event.next_attempt_at
    for attempt, wait in enumerate(waits):
        longest = min(2**attempt, 3600)
        assert longest / 2 <= wait <= longest
    stripe.before_arrival = failing(None, times=0)
    work(row)
    assert read(events)[0].status == "done"
    assert read(events)[0].error is None


def test_waits_are_scattered(stripe, record, work, read, clock):
    """LED-7: a hundred events that failed together do not come back together."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429))
    for number in range(20):
        work(record(build_event(subject=build_subscription(customer=f"cus_{number}"))))
    assert len({row.next_attempt_at for row in read(events)}) > 15


def test_retry_after_is_respected(stripe, record, work, read, clock):
    """LED-7."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429, retry_after=120))
    work(record(build_event()))
    assert read(events)[0].next_attempt_at >= clock.now() + timedelta(seconds=120)


def test_retry_after_without_measure_is_not_believed(stripe, record, work, read, clock):
    """LED-7: an hour is the longest wait."""
    stripe.before_arrival = failing(StripeUnclear("busy", status=429, retry_after=1e15))
    work(record(build_event()))
    assert read(events)[0].next_attempt_at == clock.now() + timedelta(hours=1)


@pytest.mark.parametrize(("retry_after", "sent"), [(None, [WorkEvents()]), (60, [])])
def test_short_wait_is_a_delayed_message_and_a_long_one_the_sweeps(stripe, record, work, queue, retry_after, sent):
    """LED-7."""
    stripe.before_arrival = failing(StripeUnclear("busy", retry_after=retry_after))
    record(build_event())
    queue.sent.clear()
    work()
    assert queue.sent == sent


def test_event_is_dead_after_twenty_attempts_and_keeps_its_error(stripe, record, work, read, clock):
    """LED-7, faults row 79."""
    stripe.before_arrival = failing(StripeUnclear("Stripe gave no clear answer (status 503).", status=503))
    row = record(build_event())
    for _ in range(MAX_FAILURES):
        assert read(events)[0].status == "pending"
        work(row)
        clock.advance(hours=1)
    [event] = read(events)
    assert (event.status, event.attempts) == ("dead", 20)
    assert event.error == "Stripe gave no clear answer (status 503)."
    assert event.payload
    assert event.finished_at


def test_event_that_kills_its_worker_every_time_is_dead_in_the_end(database, record, work, read, clock):
    """LED-7: nothing was noted but the claims."""
    row = record(build_event())
    for _ in range(MAX_FAILURES):
        with database.write() as connection:
            assert claim(connection, now=clock.now()).ids == [row]
        clock.advance(seconds=LEASE.total_seconds())
    work()
    assert [(event.status, event.error) for event in read(events)] == [
        ("dead", "Given up after 20 attempts that never came to an end.")
    ]


def test_event_that_stripe_put_off_for_want_of_budget_is_never_buried(stripe, record, work, read, clock):
    """WHK-95, faults row 31: a hundred times, a few scattered seconds each; what failed before counts as it did."""
    record(build_event())
    stripe.before_arrival = failing(StripeUnclear("no answer", status=503))
    for _ in range(MAX_FAILURES - 1):
        work()
        clock.advance(hours=1)
    stripe.before_arrival = failing(StripeBusy("Slow down.", status=429))
    for _ in range(100):
        work()
        [event] = read(events)
        assert (event.status, event.attempts) == ("pending", MAX_FAILURES - 1)
        wait = (event.next_attempt_at - clock.now()).total_seconds()
        assert 2.5 <= wait <= 5
        clock.advance(seconds=wait)
    stripe.before_arrival = failing(StripeUnclear("no answer", status=503))
    work()
    assert [(event.status, event.attempts) for event in read(events)] == [("dead", MAX_FAILURES)]


@pytest.mark.parametrize(("renews_after", "left"), [(0.0, ["done"]), (60.0, ["pending"])])
def test_worker_that_gets_on_keeps_its_events(
    database, stripe, record, work, statuses, clock, monkeypatch, renews_after, left
):
    """WHK-94: each request renews the lease, where it was not renewed just now."""
    monkeypatch.setattr("billing.webhooks.process.RENEW_SECONDS", renews_after)
    subscription = build_subscription(schedule="sub_sched_1")
    stripe.put(subscription, {"id": "sub_sched_1", "object": "subscription_schedule", "phases": []})
    record(build_event())
    found = []

    def take_time(_name):
        clock.advance(seconds=24)
        with database.write() as connection:
            found.extend(claim(connection, now=clock.now()).events)

    stripe.before_arrival = take_time
    work()
    assert stripe.calls == {"list_subscriptions": 1, "get_schedule": 1}
    assert statuses() == left
    assert bool(found) is (left == ["pending"])


def test_what_stripe_refuses_for_good_is_dead_at_once(stripe, record, work, read):
    """LED-7."""
    stripe.before_arrival = failing(REFUSED)
    work(record(build_event()))
    assert [(event.status, event.attempts, event.error) for event in read(events)] == [("dead", 1, "no")]


def test_refused_key_kills_no_event(stripe, record, work, read):
    """LED-7: the operator mends the key, and what waited is worked."""
    stripe.before_arrival = failing(StripeMisconfigured("Stripe does not accept this API key."))
    work(record(build_event()))
    assert [event.status for event in read(events)] == ["pending"]


def test_bug_is_told_and_the_event_waits(stripe, record, work, read):
    """LED-7: its error names the kind only; a message could hold anything."""
    stripe.before_arrival = failing(ZeroDivisionError("whsec_secret in a message"))
    with pytest.raises(ZeroDivisionError):
        work(record(build_event()))
    assert [(event.status, event.error) for event in read(events)] == [("pending", "ZeroDivisionError")]


def test_poison_does_not_keep_others_waiting(stripe, record, work, read, projected, queue):
    """LED-11, faults row 79."""
    stripe.put({"id": "cus_2", "object": "customer"}, build_subscription("sub_2", customer="cus_2"))
    record(build_event())
    record(build_event(subject=build_subscription("sub_2", customer="cus_2")))
    stripe.before_arrival = failing(ZeroDivisionError(), times=1)
    queue.sent.clear()
    with pytest.raises(ZeroDivisionError):
        work()
    assert queue.sent == [WorkEvents()]
    work()
    assert [event.status for event in read(events)] == ["pending", "done"]
    assert projected("cus_2") == {"sub_2": "active"}


def test_gauges_count_what_waits_and_what_is_dead(stripe, record, work, database, clock):
    """LED-7: what is shown."""
    with database.read() as connection:
        assert events_store.oldest_pending_age_seconds(connection, clock.now()) == 0
    stripe.before_arrival = failing(REFUSED)
    work(record(build_event(subject=build_subscription(customer="cus_2"))))
    record(build_event())
    clock.advance(seconds=90)
    with database.read() as connection:
        assert events_store.count_pending(connection) == 1
        assert events_store.count_dead(connection) == 1
        assert events_store.oldest_pending_age_seconds(connection, clock.now()) == 90


def test_each_attempt_is_shown_and_what_left_no_trace_is_counted(stripe, record, work, read, clock, database):
    """OPS-191: two failures, a replay, another failure, a worker that was killed, and the attempt that worked."""

    def shown():
        [event] = read(events)
        found = show_event(event.event_id, database=database)
        return [(each["at"], each["error"]) for each in found["history"]], found["untraced"], found["attempts"]

    def fails(why):
        stripe.before_arrival = failing(StripeUnclear(why, status=503))
        work(row)
        tried.append((iso(clock.now() - timedelta(seconds=read(events)[0].seconds)), why))
        clock.advance(hours=1)

    row, tried = record(build_event()), []
    assert shown() == ([], 0, 0)
    fails("one")
    fails("two")
    assert shown() == (tried, 0, 2)
    replay_few(EventFilter(event_ids=(read(events)[0].event_id,)), reason="r", database=database, queue=InlineQueue(),
               clock=clock)  # fmt: skip
    assert shown() == (tried, 0, 0), "a replay begins anew, and forgets nothing"
    fails("three")
    with database.write() as connection:
        claim(connection, now=clock.now())
    clock.advance(seconds=LEASE.total_seconds())
    stripe.before_arrival = failing(None, times=0)
    work(row)
    history, untraced, attempts = shown()
    assert (history[:-1], history[-1][1], untraced, attempts) == (tried, None, 1, 2)
    assert read(events)[0].status == "done"


def test_of_many_attempts_the_last_twenty_are_kept(stripe, record, work, read, clock, database):
    """OPS-191"""
    row = record(build_event())
    for number in range(MOST_KEPT + 3):
        stripe.before_arrival = failing(StripeUnclear(f"{number}", status=503))
        work(row)
        clock.advance(hours=1)
        if number == 5:
            with database.write() as connection:
                connection.execute(sa.update(events).values(attempts=0))  # as a replay does
    found = show_event(read(events)[0].event_id, database=database)
    assert [each["error"] for each in found["history"]] == [f"{number}" for number in range(3, MOST_KEPT + 3)]


def test_wake_up_says_whether_a_failure_was_noted(stripe, record, work):
    """LED-7: also where another customer's events were worked after it."""
    stripe.put(build_subscription(), build_subscription("sub_2", customer="cus_2"))
    assert work(record(build_event()))

    def fail(_name):
        stripe.before_arrival = lambda _name: None
        raise StripeUnclear("busy")

    stripe.before_arrival = fail
    record(build_event(subject=build_subscription("sub_3", customer="cus_3")))
    assert not work(record(build_event(subject=build_subscription("sub_2", customer="cus_2"))))
