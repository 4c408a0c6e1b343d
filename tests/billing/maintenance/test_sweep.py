"""The sweep: what goes back on the queue, and that sweeping too often does no harm."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents, WorkLane
from billing.coordination.queue import InlineQueue
from billing.errors import StripeUnclear
from billing.maintenance.sweep import SweepReport, sweep
from billing.models import checkouts, customers, events, lanes
from billing.rules.lease import LEASE
from billing.webhooks.claim import claim
from tests.support.builders import NOON, build_event, build_subscription


@pytest.fixture
def sweep_once(database, clock):
    """One sweep; what it sent."""

    def sweep_once():
        queue = InlineQueue()
        sweep(database=database, queue=queue, clock=clock)
        return queue.sent

    return sweep_once


@pytest.fixture
def put_lane(database):
    """A lane in this state, with one checkout in that status."""

    def put_lane(state="closed", *, checkout=None, due=None, key=None, arrived_at=NOON):
        with database.write() as connection:
            number = connection.scalar(sa.select(sa.func.count()).select_from(lanes)) + 1
            user = {"user_id": f"user_{number}", "idempotency_key": f"k{number}", "parameters": {}, "created_at": NOON}
            connection.execute(sa.insert(customers).values(user))
            lane = {"id": number, "user_id": f"user_{number}", "product": "kiloclaw", "state": state}
            connection.execute(sa.insert(lanes).values(lane | {"next_attempt_at": due}))
            if checkout:
                asked = {"plan": "standard", "price_id": "price_kiloclaw_standard", "request": {}, "fingerprint": "f"}
                whose = {"id": f"chk_{number}", "lane_id": number, "user_id": f"user_{number}", "number": 1}
                rest = {"status": checkout, "idempotency_key": key, "body_hash": "h", "arrived_at": arrived_at}
                connection.execute(sa.insert(checkouts).values(asked | whose | rest))
        return number

    return put_lane


def test_event_whose_wake_up_was_lost_is_found(record, sweep_once, work, database):
    """LED-8, faults row 8: recorded and answered, then nobody was woken."""
    row = record(build_event())
    assert sweep_once() == [WorkEvents()]
    work(row)
    assert sweep_once() == []


def test_one_wake_up_for_all_customers(record, sweep_once):
    """LED-8: whoever takes it wakes others where more customers wait."""
    for number in range(5):
        record(build_event(subject=build_subscription(customer=f"cus_{number}")))
    assert sweep_once() == [WorkEvents()]


def test_event_of_a_killed_worker_is_found_when_its_lease_ends(record, sweep_once, database, clock):
    """LED-8."""
    row = record(build_event())
    with database.write() as connection:
        assert claim(connection, now=clock.now()).ids == [row]
    assert sweep_once() == []
    clock.advance(seconds=LEASE.total_seconds())
    assert sweep_once() == [WorkEvents()]


def test_event_that_waits_after_a_failure_is_left_until_its_time(record, sweep_once, work, stripe, clock):
    """LED-8, LED-7."""

    def fail(_name):
        raise StripeUnclear("busy", status=429, retry_after=60)

    stripe.before_arrival = fail
    row = record(build_event())
    work(row)
    assert sweep_once() == []
    clock.advance(seconds=61)
    assert sweep_once() == [WorkEvents()]


def test_what_is_finished_is_left_alone(record, sweep_once, database):
    """LED-8."""
    row = record(build_event())
    for status in ("done", "ignored", "rejected", "dead"):
        with database.write() as connection:
            connection.execute(sa.update(events).where(events.c.id == row).values(status=status))
        assert sweep_once() == []


@pytest.mark.parametrize(
    ("state", "checkout", "due", "woken"),
    [
        ("closed", None, None, False),
        ("open", None, None, False),
        ("open", "open", None, False),
        ("closed", "completed", None, False),
        ("closed", "pending", None, True),
        ("open", "pending", None, True),
        ("creating", None, None, True),
        ("closing", None, None, True),
        ("creating", "pending", NOON, True),
        ("creating", "pending", NOON + timedelta(seconds=1), False),
        ("closed", "pending", NOON + timedelta(seconds=1), False),
    ],
)
def test_lane_with_unfinished_work_is_woken_when_it_is_due(put_lane, sweep_once, state, checkout, due, woken):
    """LED-8."""
    lane = put_lane(state, checkout=checkout, due=due)
    assert sweep_once() == ([WorkLane(lane)] if woken else [])


def test_clients_keys_are_kept_for_a_day(put_lane, database, clock, queue):
    """LED-8, CHK-10."""
    put_lane(checkout="open", key="old")
    put_lane(checkout="open", key="young", arrived_at=NOON + timedelta(hours=1))
    clock.advance(hours=24, seconds=1)
    assert sweep(database=database, queue=queue, clock=clock) == SweepReport(events=False, lanes=0, keys=1)
    with database.read() as connection:
        left = connection.scalars(sa.select(checkouts.c.idempotency_key).order_by(checkouts.c.id)).all()
    assert left == [None, "young"]


def test_many_sweeps_and_workers_at_once_work_each_event_once(database, record, work, stripe, sweep_once):
    """LED-8: five beats, four workers, every wake-up sent five times."""
    stripe.put({"id": "cus_2", "object": "customer"}, {"id": "cus_3", "object": "customer"}, build_subscription())
    for number in range(30):
        record(build_event(subject=build_subscription(customer=f"cus_{number % 3 + 1}")))
    with ThreadPoolExecutor(5) as threads:
        jobs = [job for sent in threads.map(lambda _: sweep_once(), range(5)) for job in sent]
        assert jobs == [WorkEvents()] * 5
        list(threads.map(lambda _: work(), jobs))
    with database.read() as connection:
        worked = connection.execute(sa.select(events.c.status, events.c.attempts)).all()
    assert set(worked) == {("done", 0)}
    assert stripe.calls["list_subscriptions"] == 3
