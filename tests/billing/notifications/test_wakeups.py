"""Every commit that writes a change is followed by a wake-up, whichever flow it is."""

from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Notify
from billing.customers.customers import claim_customer
from billing.database import Database
from billing.models import events, outbox
from billing.operations.decide import Kind
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.release import release_deleted
from billing.subscriptions.sync import sync_customer
from tests.support.duplicates_world import Shop
from tests.support.operations_world import Shop as OperationsShop
from tests.support.reconcile_world import tagged_subscription


def paid(shop: Shop) -> None:
    """A checkout is completed, and its events arrive."""
    shop.subscribe("user_1")
    shop.queue.sent.clear()
    shop.deliver(shop.made())
    shop.process(None)  # type: ignore[arg-type]


def taken_over(shop: Shop) -> None:
    """A subscriber from before becomes a user."""
    tagged_subscription(shop, "cus_old")
    claim_customer("user_1", "cus_old", database=shop.database, clock=shop.clock)
    shop.sync_taken_over()


def reconciled(shop: Shop) -> None:
    """Every event counts as worked, and yet the projection lacks the subscription."""
    tagged_subscription(shop, "cus_old")
    shop.deliver(shop.made())
    with shop.database.write() as connection:
        connection.execute(sa.update(events).values(status="done"))
    shop.queue.sent.clear()
    shop.reconcile(thorough=True)


def remedied(shop: Shop) -> None:
    """A duplicate is canceled."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.queue.sent.clear()
    shop.remedy(incident_id)


def deleted(shop: Shop) -> None:
    """Stripe has deleted the customer: it is released from its user."""
    customer = shop.customer()
    shop.told()
    shop.sandbox.request("DELETE", f"/v1/customers/{customer}")
    shop.queue.sent.clear()
    places: dict[str, Any] = {"stripe": shop.stripe, "catalog": shop.catalog, **shop.places()}
    assert release_deleted("user_1", customer, SyncContext(**places))


@pytest.mark.parametrize("flow", [paid, taken_over, reconciled, remedied, deleted])
def test_flow_that_writes_a_change_wakes_who_sends_it(database: Database, flow: Callable[[Shop], None]) -> None:
    """NTF-9"""
    shop = Shop(database)
    flow(shop)
    assert shop.rows(outbox)
    assert Notify() in shop.queue.sent


def test_operation_wakes_who_sends_its_change(database: Database) -> None:
    """NTF-9"""
    shop = OperationsShop(database)
    shop.subscriber()
    shop.change(Kind.CANCEL)
    [job] = shop.queue.sent
    shop.queue.sent.clear()
    shop.work_operations(job.row_id)  # type: ignore[attr-defined]
    assert shop.rows(outbox)
    assert Notify() in shop.queue.sent


def test_wake_up_is_sent_after_the_commit_and_only_for_a_change(database: Database) -> None:
    """NTF-9: whoever is woken finds the change."""
    shop, seen = Shop(database), []

    class Looking:
        def send(self, _job: object, **_: object) -> bool:
            with database.read() as connection:
                seen.append(connection.scalar(sa.select(sa.func.count()).select_from(outbox)))
            return True

    places: dict[str, Any] = {"database": database, "stripe": shop.stripe, "clock": shop.clock, "queue": Looking()}
    customer = shop.customer()
    for _ in range(2):
        sync_customer(customer, SyncContext(catalog=shop.catalog, **places))
    assert seen == [1]
