"""A person has one user compared with Stripe: a worker does it, and tells the application only what differs."""

from typing import Any

import pytest

from billing.coordination.jobs import SyncCustomers
from billing.database import Database
from billing.errors import NotFound, UserErased
from billing.models import customers, outbox
from billing.operators.sync_user import NoCustomer, ask_for_sync, look_up_sync
from tests.support.reconcile_world import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


def ask(shop: Shop, user: str = "user_1") -> Any:
    asked = ask_for_sync(user, database=shop.database, clock=shop.clock)
    shop.queue.send(SyncCustomers())
    return asked


def found(shop: Shop, asked: Any) -> dict[str, Any]:
    return look_up_sync(asked, database=shop.database, catalog=shop.catalog, clock=shop.clock)


def test_user_who_paid_and_whose_events_were_lost_has_access(shop: Shop) -> None:
    """OPS-181"""
    shop.subscribe("user_1")
    asked = ask(shop)
    before = found(shop, asked)
    assert (before["synced"], before["access"]["granted"]) == (False, False)
    shop.work()
    after = found(shop, asked)
    assert (after["synced"], after["access"]["granted"]) == (True, True)
    assert after["changes"] == ["subscription.activated"]


def test_application_hears_nothing_where_nothing_differs(shop: Shop) -> None:
    """OPS-181: else it would hear of each subscription again, as after a take-over (SUB-71)."""
    shop.subscribe("user_1")
    ask(shop)
    shop.work()
    told = len(shop.rows(outbox))
    ask(shop)
    asked = ask(shop)  # once more, before a worker was free
    shop.work()
    assert (found(shop, asked)["synced"], found(shop, asked)["changes"]) == (True, [])
    assert len(shop.rows(outbox)) == told


def test_first_fetch_after_a_take_over_stays_one(shop: Shop) -> None:
    """SUB-71: asked in between or not, the application hears of what was there before."""
    customer = shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    told = len(shop.rows(outbox))
    with shop.database.write() as connection:
        connection.exec_driver_sql(f"UPDATE customers SET sync_due_at = created_at WHERE customer_id = '{customer}'")
    ask(shop)
    shop.work()
    assert len(shop.rows(outbox)) == told + 1


def test_asking_begins_to_count_failures_anew(shop: Shop) -> None:
    """OPS-181: else a user who failed often before is tried again an hour later."""
    shop.subscribe("user_1")
    with shop.database.write() as connection:
        connection.exec_driver_sql("UPDATE customers SET sync_failures = 12")
    ask(shop)
    [row] = shop.rows(customers)
    assert (row.sync_failures, row.sync_error) == (0, None)


def test_why_it_is_not_done_is_shown(shop: Shop) -> None:
    """OPS-181"""
    shop.subscribe("user_1")
    shop.sandbox.faults.add("status", status=429, times=None)
    asked = ask(shop)
    shop.sync_taken_over()
    assert found(shop, asked)["synced"] is False
    assert "slow down" in found(shop, asked)["error"]
    shop.sandbox.faults.clear()
    ask(shop)
    shop.work()
    assert found(shop, asked) | {"access": None} == {
        "user_id": "user_1",
        "customer_id": asked.customer_id,
        "synced": True,
        "changes": ["subscription.activated"],
        "access": None,
        "error": None,
    }


def test_who_cannot_be_compared_is_refused(shop: Shop) -> None:
    with pytest.raises(NotFound):
        ask(shop, "nobody")
    shop.ask(user="new")
    with pytest.raises(NoCustomer):
        ask(shop, "new")
    shop.subscribe("gone")
    with shop.database.write() as connection:
        connection.exec_driver_sql("UPDATE customers SET erased_at = created_at WHERE user_id = 'gone'")
    with pytest.raises(UserErased):
        ask(shop, "gone")
