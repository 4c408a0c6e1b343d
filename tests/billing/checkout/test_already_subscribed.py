"""Which subscriptions and payments of a buyer refuse a checkout, and which do not."""

import pytest

from billing.models import CheckoutStatus
from tests.support.checkout_world import World


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "paused", "incomplete", "unpaid"])
def test_live_subscription_refuses_a_checkout(world: World, status: str) -> None:
    """CHK-7: every status but canceled and incomplete_expired counts."""
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], status)
    again = world.served()
    waiting = status in ("incomplete", "unpaid")
    assert again.status is CheckoutStatus.REFUSED
    assert again.error is not None
    assert again.error["code"] == ("payment_in_progress" if waiting else "already_subscribed")
    assert again.error["subscription_status"] == status
    assert ("not tried again" in again.error["detail"]) is (status == "unpaid")
    assert world.sessions("open") == []


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_ended_subscription_does_not_refuse_a_checkout(world: World, status: str) -> None:
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], status)
    assert world.served().status is CheckoutStatus.OPEN


def test_subscription_to_another_product_does_not_refuse_a_checkout(world: World) -> None:
    """CHK-16."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    world.sandbox.seed([{"object": "price", "id": "price_other", "unit_amount": 5, "recurring": {"interval": "month"}}])
    items = [{"price": "price_other"}]
    world.sandbox.give_card(customer_id)
    made = world.sandbox.request("POST", "/v1/subscriptions", {"customer": customer_id, "items": items})
    assert made.status == 200
    assert world.served("commit").status is CheckoutStatus.OPEN


def test_subscription_made_elsewhere_to_our_price_refuses_a_checkout(world: World) -> None:
    """CHK-7, LAN-11: without any tag, by its price."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    items = [{"price": world.catalog.plans["standard"].price}]
    world.sandbox.give_card(customer_id)
    world.sandbox.request("POST", "/v1/subscriptions", {"customer": customer_id, "items": items})
    view = world.served()
    assert view.status is CheckoutStatus.REFUSED
    assert world.sessions("open") == []


def test_delayed_payment_is_in_progress(world: World) -> None:
    """CHK-7."""
    view = world.served()
    world.sandbox.pay(str(view.session_id), delayed=True)
    error = world.served().error
    assert error is not None
    assert error["code"] == "payment_in_progress"
