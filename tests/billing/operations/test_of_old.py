"""Subscriptions of an earlier system: in Stripe's classic billing mode, with amounts that wait for the next invoice."""

from typing import Any

from billing.customers.customers import claim_customer
from billing.models import OperationStatus
from billing.operations.calls import Kind
from tests.support.operations_world import Shop, change

ADDON: dict[str, Any] = {"object": "price", "id": "price_addon", "product": "prod_addon", "currency": "usd"}
ADDON |= {"unit_amount": 300, "recurring": {"interval": "month", "interval_count": 1}}


def taken_over(shop: Shop, *prices: str, mode: str = "classic") -> str:
    """A user whose subscription was made before there was onelane; its id."""
    shop.sandbox.seed([{"object": "product", "id": "prod_addon", "name": "Add-on"}, ADDON])
    customer = change(shop, "customers", {})["id"]
    shop.sandbox.give_card(customer)
    made = {"customer": customer, "billing_mode": {"type": mode}, "metadata": {"type": shop.catalog.product}}
    items = [{"price": price} for price in prices]
    subscription = str(change(shop, "subscriptions", made | {"items": items})["id"])
    claim_customer("user_1", customer, database=shop.database, clock=shop.clock)
    shop.sync_taken_over()
    shop.clock.advance(hours=1)
    return subscription


def test_switch_that_classic_billing_cannot_bill_is_refused_before_anything_is_changed(shop: Shop) -> None:
    """SUB-82: a monthly add-on beside a plan of six months is for flexible billing mode alone."""
    standard = shop.catalog.plans["standard"].price
    subscription = taken_over(shop, standard, "price_addon")
    before = shop.at_stripe(subscription)
    writes = shop.writes()
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {}).get("code")) == (OperationStatus.REFUSED, "not_switchable")
    assert "not billed as often" in (view.error or {})["detail"]
    assert (shop.at_stripe(subscription), shop.writes()) == (before, writes)


def test_switch_from_a_price_that_stripe_does_not_sell_any_more_is_refused_with_a_code(shop: Shop) -> None:
    """SUB-82: Stripe does not take an archived price in a phase, be it the one that runs; it is no failure of ours."""
    old = {**ADDON, "id": "price_of_2024", "unit_amount": 700}
    shop.sandbox.seed([old])
    plans = {**shop.catalog.plans}
    plans["standard"] = plans["standard"].model_copy(update={"former_prices": ("price_of_2024",)})
    shop.catalog = shop.catalog.model_copy(update={"plans": plans})
    subscription = taken_over(shop, "price_of_2024", mode="flexible")
    change(shop, "prices/price_of_2024", {"active": False})
    before = shop.at_stripe(subscription)
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {}).get("code")) == (OperationStatus.REFUSED, "not_switchable")
    assert "operators" not in str(view.error)
    assert "inactive" not in str(view.error), "Stripe's words are the operator's"
    assert shop.at_stripe(subscription) == before
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED


def test_plan_alone_switches_in_classic_billing_mode_and_its_add_on_in_flexible(shop: Shop) -> None:
    """SUB-34, SUB-82"""
    standard, commit = shop.catalog.plans["standard"].price, shop.catalog.plans["commit"].price
    subscription = taken_over(shop, standard)
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    shop.renew(subscription)
    assert [item["price"]["id"] for item in shop.at_stripe(subscription)["items"]["data"]] == [commit]


def test_amounts_that_wait_for_the_next_invoice_are_billed_with_the_switch(shop: Shop) -> None:
    """SUB-82: support added something that is billed once; it is neither lost nor billed twice."""
    subscription = taken_over(shop, shop.catalog.plans["standard"].price)
    customer = shop.at_stripe(subscription)["customer"]
    once = {"customer": customer, "subscription": subscription, "amount": 700, "currency": "usd"}
    change(shop, "invoiceitems", once)
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    shop.renew(subscription)
    shop.renew(subscription)
    billed = [line["amount"] for one in shop.objects("invoice") for line in one["lines"]["data"]]
    assert billed.count(700) == 1
