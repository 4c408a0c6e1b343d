"""Replays: what an operator has worked again, whoever else works, stops or replays at the same time."""

import threading
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import ReplayEvents, WorkEvents
from billing.errors import StripeRefused
from billing.maintenance import replay_store
from billing.maintenance.replay import count_events, replay_few
from billing.maintenance.replay_run import BATCH, begin_run, work_run
from billing.maintenance.replay_store import EventFilter
from billing.models import EventStatus, events, replays
from billing.operators.events import show_event
from billing.operators.replays import show_replay
from billing.rules.lease import LEASE
from billing.webhooks import events_store
from billing.webhooks.claim import claim
from tests.support.builders import NOON, build_event, build_subscription

REFUSED = StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer")
DEAD = EventFilter(status=EventStatus.DEAD)


@pytest.fixture
def replay(database, queue, clock):
    """Have what is found replayed to the end; `wait` is called between two steps. How many were set back."""

    def replay(chosen=DEAD, *, wait=lambda: None):
        places = {"database": database, "queue": queue, "clock": clock}
        replay_id = begin_run(chosen, reason="the price was fixed", **places)
        while (row := show_replay(replay_id, database=database))["state"] == "running":
            work_run(replay_id, **places)
            wait()
        return row["replayed"]

    return replay


def history(database):
    with database.read() as connection:
        columns = (replays.c.state, replays.c.counted, replays.c.replayed, replays.c.reason)
        return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(replays.c.id))]


# --- one


def test_dead_event_is_worked_again_once_its_cause_is_mended(stripe, record, work, database, queue, clock, statuses):
    """LED-16, LED-17: what Stripe refused is dead; then it is replayed, and its history says so."""

    def refuse(_name):
        raise REFUSED

    stripe.put(build_subscription())
    stripe.before_arrival = refuse
    event = build_event()
    row = record(event)
    work(row)
    assert statuses() == ["dead"]
    stripe.before_arrival, queue.sent = lambda name: None, []

    chosen = EventFilter(event_ids=(event["id"],))
    done = replay_few(chosen, reason="the key was fixed", database=database, queue=queue, clock=clock)

    assert (done.replayed, queue.sent, statuses()) == (1, [WorkEvents()], ["pending"])
    work(row)
    assert statuses() == ["done"]
    [replayed] = show_event(event["id"], database=database)["replays"]
    assert (replayed["reason"], replayed["was_status"], replayed["was_error"]) == ("the key was fixed", "dead", "no")
    assert history(database) == [("finished", 1, 1, "the key was fixed")]


def test_replayed_event_has_all_its_attempts_again(put, replay, database):
    """LED-17: else it would be dead at the first failure."""
    put(attempts=20, next_attempt_at=NOON + timedelta(hours=1))
    replay()
    with database.read() as connection:
        row = connection.execute(sa.select(events)).one()
    assert (row.attempts, row.next_attempt_at, row.error, row.finished_at) == (0, NOON, None, None)


def test_replayed_event_waits_since_its_replay(put, replay, database, clock):
    """LED-16: an alert on the oldest pending event must not ring for each replay."""
    put(received_at=NOON - timedelta(days=20))
    replay()
    clock.advance(seconds=7)
    with database.read() as connection:
        assert events_store.oldest_pending_age_seconds(connection, clock.now()) == 7


@pytest.mark.parametrize(
    ("status", "columns", "replayed"),
    [
        ("dead", {}, 1),
        ("done", {}, 1),
        ("ignored", {}, 1),
        ("rejected", {}, 0),
        ("pending", {"attempts": 0, "error": None}, 0),  # waits for its first attempt anyway
        ("pending", {"attempts": 0}, 1),  # put off, since Stripe asked to slow down
        ("pending", {"next_attempt_at": NOON + timedelta(hours=1)}, 1),  # waits after a failure: now, please
        ("pending", {"claim": "worker", "claimed_until": NOON + LEASE}, 0),  # somebody is at it
        ("pending", {"claim": "killed", "claimed_until": NOON - LEASE}, 1),
    ],
)
def test_event_is_set_back_only_where_nobody_holds_it(put, replay, statuses, status, columns, replayed):
    """LED-17."""
    put(status=status, **columns)
    assert replay(EventFilter()) == replayed
    assert statuses() == (["pending"] if replayed else [status])


def test_worker_that_lost_its_claim_to_a_replay_closes_nothing(put, replay, database, clock, statuses):
    """LED-17, LED-2: it was frozen for longer than its lease."""
    [row] = put(status="pending", claim="frozen", claimed_until=NOON)
    replay(EventFilter())
    with database.write() as connection:
        assert events_store.finish(connection, [row], token="frozen", status=EventStatus.DONE, now=NOON) == 0
    assert statuses() == ["pending"]


# --- many


def test_filter_means_what_it_says(put, database, clock):
    """LED-17."""
    put(3, type="customer.subscription.updated", received_at=NOON)
    put(2, type="customer.subscription.deleted", received_at=NOON + timedelta(hours=1))
    put(1, type="customer_subscription.updated", customer="cus_me", received_at=NOON + timedelta(hours=2))
    put(1, type="invoice.paid", status="done", received_at=NOON + timedelta(hours=3))

    def count(**said):
        return count_events(EventFilter(**said), database=database, clock=clock).events

    assert count() == 7
    assert count(status=EventStatus.DEAD) == 6
    assert count(types=("customer.subscription.*",)) == 5
    assert count(types=("customer.subscription.deleted", "invoice.paid")) == 3
    assert count(customer_id="cus_me") == 1
    assert count(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=3)) == 3
    found = count_events(EventFilter(), database=database, clock=clock)
    assert dict(found.by_status) == {"dead": 6, "done": 1}


def test_one_wake_up_for_a_batch(put, replay, queue):
    """LED-17, WHK-14."""
    put(15)
    queue.sent = []
    replay()
    assert [job for job in queue.sent if not isinstance(job, ReplayEvents)] == [WorkEvents()]


def test_what_came_after_the_count_is_not_meant(put, database, queue, clock):
    """LED-17: the operator agreed to a number."""
    put(3)
    found = count_events(DEAD, database=database, clock=clock)
    put(2)
    places = {"database": database, "queue": queue, "clock": clock}
    replay_id = begin_run(DEAD, reason="r", found=found, **places)
    for _ in range(2):
        work_run(replay_id, **places)
    assert history(database) == [("finished", 3, 3, "r")]


# --- several operators


def test_two_operators_at_the_same_moment_set_an_event_back_once(put, database, queue, clock):
    """LED-17: one of them hears that it waits already."""
    for _ in range(10):
        [row] = put(status="dead")
        with database.read() as connection:
            event_id = connection.scalar(sa.select(events.c.event_id).where(events.c.id == row))
        gate, counts = threading.Barrier(4), []

        def press(gate=gate, counts=counts, event_id=event_id):
            gate.wait()
            chosen = EventFilter(event_ids=(event_id,))
            counts.append(replay_few(chosen, reason="r", database=database, queue=queue, clock=clock).replayed)

        threads = [threading.Thread(target=press) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(counts) == [0, 0, 0, 1]


def test_replay_and_workers_at_once_leave_everything_done(put, replay, work, queue, database, statuses, clock):
    """LED-17, LED-2: workers claim while rows are set back, on both databases."""
    put(2 * BATCH, customer="cus_1")
    put(BATCH)
    ended = threading.Event()

    def worker():
        while not (ended.is_set() and "pending" not in statuses()):
            work()

    threads = [threading.Thread(target=worker) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        replayed = replay(wait=lambda: ended.wait(0.005))
    finally:
        ended.set()
        for thread in threads:
            thread.join()
    assert replayed == 3 * BATCH
    assert set(statuses()) == {"done"}


def test_rows_that_a_worker_is_just_claiming_are_left_to_it(put, database, clock):
    """LED-17: PostgreSQL only, where two transactions can be open at once; SQLite has one writer."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    put(3, status="pending", customer="cus_1")
    with database.write() as worker, database.write() as operator:
        assert len(claim(worker, now=NOON).events) == 3
        replay_id = replay_store.begin(operator, reason="r", chosen=EventFilter(), counted=3, now=NOON)
        span = {"after": 0, "up_to": 10**6, "limit": 10}
        assert replay_store.set_back(operator, replay_id, EventFilter(), **span, now=NOON) == []
