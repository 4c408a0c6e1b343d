"""A subscription that somebody planned for later: its customer is sold no second one meanwhile."""

from datetime import timedelta
from typing import Any

import pytest

from billing.customers.customers import claim_customer
from billing.models import CheckoutStatus
from tests.support.checkout_world import World


def planned(world: World, price: str, *, customer: str = "cus_1", **fields: Any) -> str:
    """Finance plans a subscription for this customer in a month; the schedule's id."""
    start = int((world.clock.now() + timedelta(days=30)).timestamp())
    wanted = {"customer": customer, "start_date": start, "phases": [{"items": [{"price": price}]}], **fields}
    made = world.sandbox.request("POST", "/v1/subscription_schedules", wanted)
    assert made.status == 200, made.body
    return str(made.body["id"])


@pytest.fixture
def moved(world: World) -> World:
    """A user of the old system, whose customer was imported."""
    world.sandbox.seed(
        [
            {"object": "customer", "id": "cus_1", "card": "pm_card_visa"},
            {"object": "price", "id": "price_mug", "unit_amount": 500, "currency": "usd", "recurring": {}},
        ]
    )
    claim_customer("user_1", "cus_1", database=world.database, clock=world.clock)
    return world


def test_customer_whose_subscription_begins_later_is_sold_no_second_one(moved: World) -> None:
    """CHK-41: until the schedule is released."""
    schedule = planned(moved, moved.catalog.plans["commit"].price)
    view = moved.served()
    assert view.status is CheckoutStatus.REFUSED
    assert view.error == {
        "code": "already_subscribed",
        "detail": "A subscription to this product is planned for this customer and begins later. Ask for help.",
        "subscription_status": "not_started",
    }
    assert moved.sessions() == []
    assert moved.sandbox.request("POST", f"/v1/subscription_schedules/{schedule}/cancel", {}).status == 200
    assert moved.served().status is CheckoutStatus.OPEN


@pytest.mark.parametrize("price", ["price_mug", None])
def test_what_is_planned_of_another_product_blocks_only_by_our_tag(moved: World, price: str | None) -> None:
    """CHK-41, CHK-16"""
    tag = {} if price else {"metadata": {"type": moved.catalog.product}}
    planned(moved, "price_mug", **tag)
    status = moved.served().status
    assert status is (CheckoutStatus.OPEN if price else CheckoutStatus.REFUSED)


def test_customer_that_was_just_made_is_not_asked_for_plans(world: World) -> None:
    """CHK-41: nothing can be planned for one."""
    assert world.served().status is CheckoutStatus.OPEN
    assert world.requests("GET", "/v1/subscription_schedules") == []


def test_stripe_that_has_no_schedules_sells_all_the_same(moved: World) -> None:
    """CHK-41: a stand-in for Stripe may not know the route."""
    moved.sandbox.faults.add("status", method="GET", path="/v1/subscription_schedules", status=404, times=None)
    assert moved.served().status is CheckoutStatus.OPEN
