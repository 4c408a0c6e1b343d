"""What a worker has claimed: kept while it waits for Stripe's budget, lost when it is dead, and what is an attempt."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.clock import SYSTEM_CLOCK
from billing.errors import StripeUnclear
from billing.models import events
from billing.queue import InlineQueue
from billing.stripe_gateway import pace, requests
from billing.stripe_gateway.pace import Pace, looked_after, while_waiting
from billing.webhooks import events_store, holding, process
from billing.webhooks.holding import LEASE, Holding
from billing.webhooks.process import MAX_ATTEMPTS, process_event
from sandbox.core import Sandbox
from tests.support.builders import CATALOG, build_event, build_subscription
from tests.support.crashing import Crash
from tests.support.in_process import API_KEY, GatewayClient, InProcess, gateway

SCARCE = StripeUnclear("Stripe gave no clear answer (status 429).", status=429)
FAILED = StripeUnclear("Stripe gave no clear answer (status 503).", status=503)


@pytest.fixture
def read(database):
    """The columns that tell, of every event."""

    def read():
        columns = (events.c.status, events.c.attempts)
        with database.read() as connection:
            return [tuple(row) for row in connection.execute(sa.select(*columns).order_by(events.c.id))]

    return read


@pytest.fixture
def at_every_look(monkeypatch):
    """The lease is renewed whenever somebody looks."""
    monkeypatch.setattr(holding, "RENEW_SECONDS", 0.0)


def failing(stripe, error):
    def fail(_name):
        raise error

    stripe.before_arrival = fail


# --- kept


def test_worker_that_waits_for_the_budget_keeps_its_events(stripe, record, work, read, clock, at_every_look):
    """WHK-94, LED-40: for ten minutes, while others are woken for them."""
    stripe.put(build_subscription())
    row = record(build_event())

    def wait(_name):
        for _ in range(30):
            clock.advance(seconds=20)
            looked_after(waiting=True)
            work(row)
        assert stripe.calls == {"list_subscriptions": 1}
        looked_after(waiting=False)

    stripe.before_arrival = wait
    work(row)
    assert read() == [("done", 1)]


def test_worker_that_neither_waits_nor_sends_loses_its_events(stripe, record, work, read, clock, at_every_look):
    """WHK-94: 25 s after it was last seen; it changes nothing about them then."""
    stripe.put(build_subscription())
    row = record(build_event())

    def freeze(_name):
        looked_after(waiting=True)
        clock.advance(seconds=LEASE.total_seconds())
        stripe.before_arrival = lambda _name: None
        work(row)
        assert read() == [("done", 1)]
        looked_after(waiting=True)
        looked_after(waiting=False)

    stripe.before_arrival = freeze
    work(row)
    assert read() == [("done", 1)]
    assert stripe.calls == {"list_subscriptions": 3}, "the second and, since something newer was written, once more"


def test_lease_is_not_written_at_every_look(database, record, clock):
    """WHK-94: only after five seconds; a ledger that is away meanwhile fails nothing."""
    row, now = record(build_event()), [0.0]
    with database.write() as connection:
        events_store.claim(connection, row, token="me", now=clock.now(), until=clock.now() + LEASE)
    held = Holding("me", [row], database=database, clock=clock, monotonic=lambda: now[0])

    def until():
        with database.read() as connection:
            return connection.scalar(sa.select(events.c.claimed_until)) - clock.time

    clock.advance(seconds=4)
    for now[0], left in ((4.9, 21), (5.0, 25)):
        held.keep(waiting=False)
        assert until() == timedelta(seconds=left)
    clock.advance(seconds=4)
    held.end()
    now[0] = 20.0
    held.keep(waiting=True)
    assert until() == timedelta(seconds=21), "it was given back, or closed"


@pytest.mark.timeout(120)
def test_scarcity_that_outlasts_the_lease_costs_one_fetch_for_each_customer(database, record, read, monkeypatch):
    """WHK-94, WHK-95: real threads before a budget of 2 a second; everybody is woken again and again meanwhile."""
    for where in (holding, process):
        monkeypatch.setattr(where, "LEASE", timedelta(seconds=2))
    monkeypatch.setattr(holding, "RENEW_SECONDS", 0.2)
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0.1)
    sandbox = Sandbox()
    subjects = []
    for number in range(12):
        sandbox.seed([{"object": "customer", "id": f"cus_{number}"}])
        subjects.append(build_subscription(customer=f"cus_{number}"))
    rows = [record(build_event("customer.subscription.updated", subject)) for subject in subjects]
    address = {"api_base": "http://sandbox.invalid", "timeout_seconds": 5, "clock": SYSTEM_CLOCK}
    stripe = GatewayClient(API_KEY, **address, max_per_second=2, http_client=InProcess(sandbox)).low_priority()
    places = {"database": database, "queue": InlineQueue(), "clock": SYSTEM_CLOCK, "catalog": CATALOG}
    deadline = time.monotonic() + 60

    def work(number):
        while any(status == "pending" for status, _ in read()):
            assert time.monotonic() < deadline
            for row in rows[number:] + rows[:number]:
                process_event(row, stripe=stripe, **places)
            threading.Event().wait(0.25)

    before = len(sandbox.log)
    with ThreadPoolExecutor(12) as threads:
        list(threads.map(work, range(12)))
    lists = [one for one in list(sandbox.log)[before:] if one["path"] == "/v1/subscriptions"]
    assert read() == [("done", 1)] * 12
    assert len(lists) == 12


# --- what is an attempt


def test_turns_that_end_in_the_wait_bury_nothing(stripe, record, work, read, clock, at_every_look):
    """WHK-95: a worker that is killed again and again while it waits."""
    stripe.put(build_subscription())
    row = record(build_event())

    def die_waiting(_name):
        looked_after(waiting=True)
        raise Crash

    stripe.before_arrival = die_waiting
    for _ in range(2 * MAX_ATTEMPTS):
        with pytest.raises(Crash):
            work(row)
        clock.advance(seconds=LEASE.total_seconds())
    assert read() == [("pending", 0)]
    stripe.before_arrival = lambda _name: None
    work(row)
    assert read() == [("done", 1)]


def test_turns_that_end_in_a_request_after_the_wait_are_attempts(stripe, record, work, read, clock, at_every_look):
    """LED-7, WHK-95: an event that kills its worker is buried, also where it has to wait before that."""
    row = record(build_event())

    def die_asking(_name):
        looked_after(waiting=True)
        looked_after(waiting=False)
        raise Crash

    stripe.before_arrival = die_asking
    for _ in range(MAX_ATTEMPTS):
        with pytest.raises(Crash):
            work(row)
        clock.advance(seconds=LEASE.total_seconds())
    work(row)
    assert read() == [("dead", MAX_ATTEMPTS + 1)]


def test_event_that_stripe_put_off_for_want_of_budget_is_never_buried(stripe, record, work, read, clock, database):
    """WHK-95, fault 31: a hundred times, a few scattered seconds each; what failed before counts as it did."""
    stripe.put(build_subscription())
    row = record(build_event())
    failing(stripe, FAILED)
    for _ in range(MAX_ATTEMPTS - 1):
        work(row)
        clock.advance(hours=1)
    failing(stripe, SCARCE)
    for number in range(100):
        work(row)
        assert read() == [("pending", MAX_ATTEMPTS - 1)]
        with database.read() as connection:
            wait = (connection.scalar(sa.select(events.c.next_attempt_at)) - clock.now()).total_seconds()
        assert 2.5 <= wait <= 5
        calls = stripe.calls.total()
        work(row)  # too early: nothing
        assert stripe.calls.total() == calls, number
        clock.advance(seconds=wait)
    failing(stripe, FAILED)
    work(row)
    assert read() == [("dead", MAX_ATTEMPTS)]


def test_first_turn_that_stripe_put_off_is_not_due_at_once(stripe, record, work, read, clock):
    """WHK-95, WHK-76: it has no attempt, and waits for its time all the same."""
    stripe.put(build_subscription())
    row = record(build_event())
    failing(stripe, SCARCE)
    work(row)
    work(row)
    assert (read(), stripe.calls.total()) == ([("pending", 0)], 1)
    stripe.before_arrival = lambda _name: None
    clock.advance(seconds=5)
    work(row)
    assert read() == [("done", 1)]


def test_dispute_that_waited_for_whose_it_is_has_no_attempt(stripe, record, work, read, at_every_look):
    """WHK-95, WHK-12: looking that up is none, whether it had to wait or not."""
    stripe.put({"id": "ch_1", "object": "charge", "customer": "cus_1"}, build_subscription())

    def wait(name):
        if name == "get_charge":
            looked_after(waiting=True)

    stripe.before_arrival = wait
    work(record(build_event("charge.dispute.created", {"id": "dp_1", "object": "dispute", "charge": "ch_1"})))
    assert read() == [("done", 1)]


# --- who looks


def test_who_waits_for_a_turn_looks_after_what_it_holds(monkeypatch):
    """WHK-94: every few seconds, and before its request."""
    monkeypatch.setattr(pace, "LOOK_SECONDS", 0.02)
    turns, looks = Pace(4), []
    with while_waiting(lambda *, waiting: looks.append(waiting)):
        for _ in range(5):
            turns.wait()
    turns.wait()
    assert looks[:4] == [False] * 4, "a second's worth goes at once"
    assert looks[4:-1] == [True] * len(looks[4:-1])
    assert len(looks) > 7
    assert looks[-1] is False


def test_reads_side_by_side_look_after_what_their_caller_holds(monkeypatch):
    """WHK-94: in their own threads, and while there is none for them."""
    monkeypatch.setattr(requests, "LOOK_SECONDS", 0.01)
    stripe, looks, go_on = gateway(Sandbox()), [], threading.Event()
    stripe._readers = ThreadPoolExecutor(1)

    def look(*, waiting):
        looks.append(waiting)
        if looks.count(True) == 3:
            go_on.set()

    stripe._readers.submit(go_on.wait, 10)
    with while_waiting(look):
        stripe.in_parallel(*[lambda: looked_after(waiting=False)] * 3)
    assert go_on.is_set()
    assert looks.count(False) == 3
