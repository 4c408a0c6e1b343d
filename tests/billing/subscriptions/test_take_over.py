"""A customer that is taken over is fetched at once, whatever dies in between."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination import wakeups
from billing.coordination.jobs import SyncCustomers, WorkLane
from billing.customers import due_syncs
from billing.customers.customers import claim_customer
from billing.maintenance.sweep import sweep
from billing.models import customers, outbox
from billing.rules.lease import LEASE
from billing.subscriptions.queries import read_subscription
from billing.subscriptions.take_over import await_sync
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.reconcile_world import Shop as Delivered
from tests.support.reconcile_world import tagged_subscription

LISTS = "/v1/subscriptions"


class Shop(Delivered):
    """A shop whose users have subscriptions from before."""

    def take_over(self, user: str = "user_1", customer: str = "cus_1") -> None:
        """The commit of `PUT /v1/customers/{user}`, and nothing after it."""
        claim_customer(user, customer, database=self.database, clock=self.clock)

    def sweep(self) -> list[Any]:
        """What a sweep sends."""
        self.queue.sent.clear()
        sweep(database=self.database, queue=self.queue, clock=self.clock)
        return self.queue.sent

    def has_access(self, user: str = "user_1") -> bool:
        """What the user reads."""
        read = read_subscription(user, database=self.database, catalog=self.catalog, clock=self.clock)
        return bool(read["access"]["granted"])

    def waits(self) -> list[str]:
        """Whose customers are still to be fetched."""
        return [row.user_id for row in self.rows(customers) if row.sync_due_at is not None]


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, a Stripe with one subscriber of whom nobody here knows."""
    shop = Shop(database)
    tagged_subscription(shop, "cus_1")
    return shop


def test_paying_buyer_has_access_as_soon_as_their_customer_is_taken_over(shop):
    """SUB-70: no event and no reconciling has come."""
    shop.take_over()
    assert not shop.has_access()
    shop.sync_taken_over()
    assert shop.has_access()
    assert shop.waits() == []
    asked = len(shop.requests("GET"))
    shop.sync_taken_over()
    assert len(shop.requests("GET")) == asked, "it is done once"


def test_lost_message_is_found_by_the_sweep(shop):
    """SUB-70: a kill between the row and its message."""
    shop.take_over()
    assert shop.sweep() == [SyncCustomers()]
    shop.sync_taken_over()
    assert shop.sweep() == []


def test_worker_that_dies_anywhere_loses_nothing(shop):
    """SUB-70: before, during and after each call and each commit."""
    deaths = 0
    for steps in range(1, 100):
        user, customer = f"user_{steps}", f"cus_{steps}"
        if steps > 1:
            tagged_subscription(shop, customer)
        shop.take_over(user, customer)
        fuse = Fuse(steps)
        dying = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
        try:
            shop.sync_taken_over(**dying)
        except Crash:
            deaths += 1
        shop.clock.advance(seconds=LEASE.total_seconds())
        if shop.waits():
            assert shop.sweep() == [SyncCustomers()]
        shop.sync_taken_over()
        assert shop.has_access(user), steps
        assert shop.waits() == []
        if not fuse.burnt:
            break
    assert deaths > 5


def test_stripe_that_does_not_answer_is_asked_again(shop):
    """SUB-70: soon at first; and the others are not kept waiting."""
    tagged_subscription(shop, "cus_2")
    shop.take_over("user_2", "cus_2")
    shop.clock.advance(seconds=1)
    shop.take_over()
    shop.sandbox.faults.add("status", path=LISTS, status=503, times=3)
    shop.sync_taken_over()
    assert not shop.has_access()
    assert shop.has_access("user_2")
    assert SyncCustomers() in shop.queue.sent
    shop.clock.advance(seconds=shop.queue.delays[SyncCustomers()])
    shop.sync_taken_over()
    assert shop.has_access()


def test_failures_in_a_row_are_counted_until_it_was_fetched(shop):
    """SUB-70: the wait grows; a user who is taken over later begins anew, and nobody else is concerned."""
    shop.take_over()
    shop.sandbox.faults.add("status", path=LISTS, status=503, times=None)
    for failures in (1, 2):
        shop.sync_taken_over()
        [row] = shop.rows(customers)
        assert (row.sync_failures, row.sync_due_at > shop.clock.now()) == (failures, True)
        shop.clock.advance(seconds=10)
    shop.sandbox.faults.clear()
    tagged_subscription(shop, "cus_2")
    shop.take_over("user_2", "cus_2")
    shop.sync_taken_over()
    assert shop.waits() == []
    assert shop.has_access("user_1")
    assert [row.sync_failures for row in shop.rows(customers)] == [2, 0]


def test_one_who_was_given_another_customer_meanwhile_is_not_put_off(shop):
    """SUB-70: a worker's answer is about the customer that it fetched."""
    shop.take_over()
    with shop.database.write() as connection:
        due = due_syncs.claim(connection, now=shop.clock.now())
        connection.execute(sa.update(customers).values(customer_id="cus_2"))
        due_syncs.put_off(connection, due, until=shop.clock.now() + timedelta(hours=1), failures=1, error="no answer")
    [row] = shop.rows(customers)
    assert (row.sync_due_at, row.sync_failures) == (due.sync_due_at, 0)


def test_whoever_took_a_customer_over_waits_until_it_was_fetched(shop, monkeypatch):
    """SUB-70: woken as soon as it is, and not before."""
    monkeypatch.setattr(wakeups, "POLL_SECONDS", 60)
    shop.take_over()
    shop.take_over("user_2", "cus_2")
    read = []

    def wait():
        await_sync("cus_1", seconds=60, database=shop.database, wakeups=shop.wakeups)
        read.append(shop.has_access())

    waiting = threading.Thread(target=wait)
    waiting.start()
    waiting.join(0.2)
    assert waiting.is_alive()
    shop.sync_taken_over()
    waiting.join(20)  # else it was not woken
    assert read == [True]
    await_sync("cus_1", seconds=60, database=shop.database, wakeups=shop.wakeups)  # at once
    await_sync("cus_9", seconds=60, database=shop.database, wakeups=shop.wakeups)


def test_last_one_goes_first(shop):
    """SUB-72: who is taken over as they come back does not wait for an import."""
    for number in range(2, 6):
        tagged_subscription(shop, f"cus_{number}")
        shop.take_over(f"user_{number}", f"cus_{number}")
    shop.clock.advance(seconds=1)
    shop.take_over()
    turns = iter([False, True])
    shop.sync_taken_over(stop=lambda: next(turns))
    assert shop.has_access()
    assert not any(shop.has_access(f"user_{number}") for number in range(2, 6))


def test_several_workers_fetch_each_customer_once(shop):
    """SUB-70: a row is one worker's."""
    for number in range(2, 10):
        tagged_subscription(shop, f"cus_{number}")
        shop.take_over(f"user_{number}", f"cus_{number}")
    asked = len(shop.requests("GET", LISTS))
    with ThreadPoolExecutor(4) as workers:
        list(workers.map(lambda _: shop.sync_taken_over(), range(4)))
    assert shop.waits() == []
    assert len(shop.requests("GET", LISTS)) - asked == 8


def test_lease_of_a_clock_that_is_ahead_is_not_waited_for(shop):
    """SUB-70, OPS-71"""
    shop.take_over()
    with shop.database.write() as connection:
        assert due_syncs.claim(connection, now=shop.clock.now() + timedelta(hours=3))
    shop.sync_taken_over()
    assert shop.has_access()


def test_application_hears_of_what_was_known_before_without_a_user(shop):
    """SUB-71: the change that the projection had before named nobody."""
    shop.deliver(shop.made())
    shop.work_events()
    assert [row.payload["user_id"] for row in shop.rows(outbox)] == [None]
    shop.take_over()
    shop.sync_taken_over()
    told = shop.rows(outbox)[-1]
    assert (told.kind, told.payload["user_id"]) == ("subscription.activated", "user_1")
    assert told.payload["access"]["granted"] is True
    shop.sandbox.request("POST", f"/v1/subscriptions/{told.payload['subscription']['id']}", {"quantity": 1})
    shop.deliver(shop.made())
    shop.work_events()
    assert len(shop.rows(outbox)) == 2, "once"


def test_event_that_comes_first_does_the_same(shop):
    """SUB-70, SUB-71"""
    shop.take_over()
    shop.deliver(shop.made())
    shop.work_events()
    assert shop.has_access()
    assert shop.waits() == []
    assert [row.payload["user_id"] for row in shop.rows(outbox)] == ["user_1"]


def test_customer_that_stripe_never_had_is_fetched_once(shop):
    """SUB-70, SUB-5: a typing error of an import is no endless work."""
    shop.take_over("user_7", "cus_typo")
    shop.sync_taken_over()
    assert shop.waits() == []


def test_buyer_who_is_new_has_nothing_to_be_fetched(shop):
    """SUB-70: only what is taken over."""
    shop.ask(user="user_9")
    assert shop.queue.sent == [WorkLane(1)]
    shop.work()
    assert shop.waits() == []
