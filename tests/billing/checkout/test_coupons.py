"""Who gets the coupon of a plan, and who has spent it."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import CheckoutStatus
from tests.support.checkout_world import World


def test_first_month_coupon_is_for_first_time_buyers_of_standard(world: World) -> None:
    """CHK-11."""
    view = world.served()
    assert world.sessions()[0]["discounts"] == [{"coupon": "kiloclaw_first_month", "promotion_code": None}]
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], "canceled")
    again = world.served()
    assert again.status is CheckoutStatus.OPEN
    assert not world.sessions("open")[0]["discounts"]


@pytest.mark.parametrize("ended", ["canceled", "never paid"])
def test_coupon_is_still_there_for_somebody_whose_trial_cost_nothing(world: World, ended: str) -> None:
    """CHK-11, CHK-20: a trial that was ended before the first payment, and one whose first payment never came."""
    ends = int((world.clock.now() + timedelta(days=10)).timestamp())
    plan = world.catalog.plans["standard"]
    plans = {**world.catalog.plans, "standard": plan.model_copy(update={"trial_end": ends})}
    world.catalog = world.catalog.model_copy(update={"plans": plans})
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    subscription = world.objects("subscription")[0]
    assert subscription["status"] == "trialing"
    if ended == "never paid":
        world.sandbox.force_status(subscription["id"], "past_due")
        world.clock.advance(days=11)
    world.sandbox.request("DELETE", f"/v1/subscriptions/{subscription['id']}")
    world.served()
    assert world.sessions("open")[0]["discounts"] == [{"coupon": "kiloclaw_first_month", "promotion_code": None}]


@pytest.mark.parametrize("spoilt", ["refunded", "free"])
def test_coupon_is_spent_by_a_first_month_that_was_refunded_or_free(world: World, spoilt: str) -> None:
    """CHK-20: else a month for nothing would be had again and again."""
    if spoilt == "free":
        plan = world.catalog.plans["standard"]
        plans = {**world.catalog.plans, "standard": plan.model_copy(update={"coupon": "all_of_it"})}
        world.catalog = world.catalog.model_copy(update={"plans": plans})
        world.sandbox.request("POST", "/v1/coupons", {"id": "all_of_it", "percent_off": 100, "duration": "once"})
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    if spoilt == "refunded":
        world.sandbox.request("POST", "/v1/refunds", {"charge": world.objects("charge")[0]["id"]})
    subscription = world.objects("subscription")[0]["id"]
    world.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
    assert world.objects("invoice")[0]["amount_paid"] == (0 if spoilt == "free" else 400)
    world.served()
    assert not world.sessions("open")[0]["discounts"]


@pytest.mark.parametrize(
    ("invoice", "spent"),
    [
        ({"status": "draft"}, False),
        ({"status": "void"}, False),
        ({"status": "open"}, True),
        ({"status": "uncollectible"}, True),
        ({"status": "paid"}, True),
        ({"status": "open", "billing_reason": "subscription_cycle"}, False),
        ({"status": "paid", "billing_reason": "subscription_cycle"}, True),
        ({"status": "paid", "subtotal": 0}, False),
    ],
)
def test_coupon_is_spent_by_an_invoice_that_was_paid_or_began_a_subscription(
    world: World, invoice: dict[str, Any], spent: bool
) -> None:
    """CHK-20: a draft bills nobody yet, a void one was never meant; after a trial a later one is the first."""
    world.sandbox.pay(str(world.served().session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], "canceled")
    [made] = world.objects("invoice")
    world.sandbox.store.put("invoice", {**made, **invoice})
    world.served()
    assert bool(world.sessions("open")[0]["discounts"]) is not spent


def test_commit_has_no_coupon_and_no_promotion_codes(world: World) -> None:
    world.served("commit")
    (session,) = world.sessions()
    assert not session["discounts"]
    assert not session["allow_promotion_codes"]
