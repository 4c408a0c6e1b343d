"""Whose events are worked, and by whom: bursts, portions, leases and clocks."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.models import events
from billing.rules.lease import LEASE
from billing.webhooks import events_store
from billing.webhooks.claim import any_due, claim
from tests.support.builders import NOON, build_event, build_subscription
from tests.support.fakes import REFUSED


def test_burst_of_twelve_events_costs_one_fetch(stripe, record, work, statuses):
    """WHK-14."""
    stripe.put(build_subscription())
    rows = [record(build_event()) for _ in range(12)]
    for row in rows:
        work(row)
    assert statuses() == ["done"] * 12
    assert stripe.calls == {"list_subscriptions": 1}


def test_very_many_events_of_one_customer_are_claimed_in_portions(stripe, record, work, statuses, database):
    """LED-2: ten thousand ids are more than a statement may carry."""
    stripe.put(build_subscription())
    row = record(build_event())
    copy_event(database, row, 1200)
    with database.write() as connection:
        assert len(claim(connection, now=NOON - LEASE).events) == 1000
    work()
    assert set(statuses()) == {"done"}
    assert stripe.calls == {"list_subscriptions": 2}


def copy_event(database, row_id, copies):
    """The same event again, under other ids."""
    with database.write() as connection:
        columns = [column for column in events.c if column.name not in ("id", "event_id")]
        one = connection.execute(sa.select(*columns).where(events.c.id == row_id)).one()._mapping
        connection.execute(sa.insert(events), [dict(one) | {"event_id": f"evt_copy_{n}"} for n in range(copies)])


def test_event_that_came_during_the_fetch_is_left_for_the_next(stripe, record, work, statuses):
    """LED-6: the fetch may be older than that event, so it must not be closed with it."""
    stripe.put(build_subscription())
    late = []
    stripe.before_arrival = lambda _name: late or late.append(record(build_event()))
    work(record(build_event()))
    assert statuses() == ["done", "done"]
    assert stripe.calls == {"list_subscriptions": 2}


def test_event_that_somebody_works_on_is_left_alone_until_the_lease_ends(
    database, stripe, record, work, statuses, clock
):
    """LED-2: the first worker was killed; the second one comes too early, then in time."""
    record(build_event())
    with database.write() as connection:
        assert claim(connection, now=clock.now()).events
    work()
    assert (statuses(), stripe.calls) == (["pending"], {})
    clock.advance(seconds=LEASE.total_seconds())
    work()
    assert statuses() == ["done"]


def test_second_worker_leaves_alone_what_the_first_one_is_fetching_for(stripe, record, work, statuses, clock):
    """LED-2: and so it is until the 25 s are over."""
    row, looked = record(build_event()), []

    def meanwhile(_name):
        if not looked:
            clock.advance(seconds=24)
            looked.append(work(row))

    stripe.before_arrival = meanwhile
    work(row)
    assert (statuses(), stripe.calls["list_subscriptions"]) == (["done"], 1)


def test_worker_that_lost_its_claim_closes_nothing(database, stripe, record, work, read, clock):
    """LED-2: it was frozen for longer than its lease; the events are its successor's now."""
    record(build_event())
    successor = []

    def lose(_name):
        clock.advance(seconds=LEASE.total_seconds())
        stripe.before_arrival = lambda name: None
        with database.write() as connection:
            successor.append(claim(connection, now=clock.now()).token)

    stripe.before_arrival = lose
    work()
    assert [(event.status, event.claim) for event in read(events)] == [("pending", *successor)]


def test_worker_that_lost_its_claim_and_failed_changes_nothing(database, stripe, record, work, read, clock):
    """LED-2."""
    record(build_event())
    successor = []

    def lose(_name):
        clock.advance(seconds=LEASE.total_seconds())
        with database.write() as connection:
            successor.append(claim(connection, now=clock.now()).token)
        raise REFUSED

    stripe.before_arrival = lose
    work()
    assert [(event.status, event.claim, event.error) for event in read(events)] == [("pending", *successor, None)]


def test_first_attempt_does_not_depend_on_the_workers_clock(stripe, record, work, statuses, clock):
    """LED-2, faults row 30: the worker's clock is two hours behind the web's."""
    row = record(build_event())
    clock.advance(hours=-2)
    work(row)
    assert statuses() == ["done"]


@pytest.mark.parametrize("what", ["claimed and died", "postponed"])
def test_nobody_waits_for_a_time_that_only_a_wrong_clock_set(database, stripe, record, work, statuses, clock, what):
    """WHK-88, faults row 30: a worker two hours ahead; no claim lasts for a minute, no postponement for two hours."""
    row = record(build_event())
    ahead = clock.now() + timedelta(hours=2)
    with database.write() as connection:
        batch = claim(connection, now=ahead)
        assert batch.ids == [row]
        if what == "postponed":
            until, failed = ahead + timedelta(seconds=1), events_store.Failure(ahead, 0.1, "no answer")
            events_store.give_back(connection, [row], token=batch.token, error="no answer", until=until, failure=failed)
    clock.advance(seconds=60)
    with database.read() as connection:
        assert any_due(connection, now=clock.now())
    work()
    assert statuses() == ["done"]


def test_wake_up_that_finds_nothing_due_does_nothing(work, stripe, queue):
    """LED-4: a forged or late message can at worst make a worker look."""
    work()
    assert (queue.sent, stripe.calls) == ([], {})
