"""Money that a later invoice hides, end to end: parts of periods, mail, debits, changes that are not paid."""

from datetime import timedelta
from typing import Any

import pytest

from billing.clock import iso
from billing.customers.customers import claim_customer
from tests.billing.subscriptions.test_money import Shop
from tests.support.builders import NOON, stamp

DAY = timedelta(days=1)


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


def sold_by_hand(shop: Shop, **fields: Any) -> dict[str, Any]:
    """Support makes a subscription for a user's customer; the subscription."""
    shop.sandbox.seed([{"object": "customer", "id": "cus_1", "card": "pm_card_visa"}])
    wanted = {"customer": "cus_1", "items": [{"price": shop.catalog.plans["standard"].price}], **fields}
    made = shop.sandbox.request("POST", "/v1/subscriptions", wanted)
    assert made.status == 200, made.body
    claim_customer("user_1", "cus_1", database=shop.database, clock=shop.clock)
    shop.sync_taken_over()
    return dict(made.body)


def test_first_part_of_a_month_is_a_period_that_was_paid(shop):
    """SUB-77, SUB-78: billing begins on a chosen day; Stripe calls the part up to it a proration."""
    anchor = stamp(shop.clock.now() + 10 * DAY)
    sold_by_hand(shop, billing_cycle_anchor=anchor)
    shop.cards_decline()
    shop.clock.advance(days=2)
    shop.bill()
    shop.told()
    assert shop.reason() == (True, "period_paid")
    assert shop.read()["access"]["until"] == iso(NOON.fromtimestamp(anchor, NOON.tzinfo))
    shop.renew()
    shop.told()
    assert shop.reason() == (True, "past_due_grace"), "something was paid before"


def test_invoice_that_is_not_due_is_no_failure(shop):
    """SUB-78: sent by mail, with 10 days to pay; something small is billed meanwhile."""
    sold_by_hand(shop, collection_method="send_invoice", days_until_due=10)
    assert shop.reason() == (True, "active")
    shop.clock.advance(days=2)
    shop.bill()
    shop.told()
    assert shop.reason() == (True, "active")
    assert shop.read()["subscription"]["payment"] == "first_pending"
    shop.rule(first_payment_pending="deny")
    assert shop.reason() == (False, "first_payment_pending")
    shop.rule()
    shop.clock.advance(days=11)
    shop.told()
    assert shop.reason() == (False, "past_due")


def test_debit_that_is_on_its_way_is_no_failure(shop):
    """SUB-78: the buyer adds something on the next day, which a card pays."""
    shop.debit(succeeds=None)
    shop.clock.advance(days=1)
    shop.sandbox.give_card(shop.objects("customer")[0]["id"])
    shop.bill()
    shop.told()
    assert shop.read()["subscription"]["payment"] == "first_pending"
    assert shop.reason() == (True, "active")
    shop.sandbox.settle(shop.sessions("complete")[0]["id"], succeeds=False)
    shop.told()
    assert shop.reason() == (False, "past_due")


def test_dearer_plan_that_is_not_paid_gives_the_one_that_was(shop):
    """SUB-121: support moves a buyer to a dearer price, and the card is declined."""
    month = {"object": "price", "unit_amount": 5000, "currency": "usd", "recurring": {"interval": "month"}}
    shop.sandbox.seed([{**month, "id": "price_dear"}])
    dear = shop.catalog.plans["standard"].model_copy(update={"key": "dear", "price": "price_dear"})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "dear": dear}})
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.clock.advance(days=2)
    [subscription] = shop.objects("subscription")
    item = {"id": subscription["items"]["data"][0]["id"], "price": "price_dear", "quantity": 3}
    moved = {"items": [item], "proration_behavior": "always_invoice"}
    shop.sandbox.change_subscription(subscription["id"], moved)
    shop.told()
    seen = shop.read()["subscription"]
    assert (shop.reason(), seen["plan"], seen["quantity"]) == ((True, "period_paid"), "standard", 1)
    shop.sandbox.force_status(subscription["id"], "active")
    shop.told()
    seen = shop.read()["subscription"]
    assert (shop.reason(), seen["plan"], seen["quantity"]) == ((True, "active"), "dear", 3)


def test_dearer_plan_that_is_not_paid_is_not_had_for_a_small_payment(shop):
    """SUB-121: another card pays something small, and Stripe calls the subscription active."""
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.clock.advance(days=2)
    [subscription] = shop.objects("subscription")
    item = {"id": subscription["items"]["data"][0]["id"], "quantity": 9}
    shop.sandbox.change_subscription(subscription["id"], {"items": [item], "proration_behavior": "always_invoice"})
    shop.another_card()
    shop.bill()
    shop.told()
    assert (shop.reason(), shop.read()["subscription"]["quantity"]) == ((True, "active"), 1)
    [owed] = (one for one in shop.objects("invoice") if one["status"] == "open")
    shop.sandbox.request("POST", f"/v1/invoices/{owed['id']}/pay", {})
    shop.told()
    assert (shop.reason(), shop.read()["subscription"]["quantity"]) == ((True, "active"), 9)


@pytest.mark.parametrize("given", ["void", "mark_uncollectible"])
def test_period_that_support_gave_is_not_taken_by_a_small_invoice(shop, given):
    """SUB-140: the renewal was voided or forgiven; something small fails later."""
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.renew()
    shop.sandbox.request("POST", f"/v1/invoices/{shop.objects('invoice')[0]['id']}/{given}", {})
    shop.bill()
    shop.clock.advance(days=16)
    shop.told()
    assert shop.reason() == (True, "period_paid")


def test_what_has_ended_is_not_past_due(shop):
    """SUB-7"""
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.renew()
    [subscription] = shop.objects("subscription")
    shop.another_card()
    shop.bill()
    shop.told()
    assert shop.read()["subscription"]["payment"] == "overdue"
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription['id']}", {})
    shop.told()
    seen = shop.read()["subscription"]
    assert (seen["status"], seen["payment"], seen["past_due_since"]) == ("canceled", None, None)


def test_renewal_that_support_voids_is_not_owed(shop):
    """SUB-77: or marks uncollectible; Stripe calls the subscription active then."""
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.renew()
    shop.told()
    assert shop.reason() == (True, "past_due_grace")
    shop.sandbox.request("POST", f"/v1/invoices/{shop.objects('invoice')[0]['id']}/void", {})
    shop.told()
    assert shop.reason() == (True, "active")


def test_buyer_who_leaves_while_past_due_reads_when_it_ends(shop):
    """SUB-11"""
    shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.renew()
    leaves = shop.clock.now() + 5 * DAY
    shop.sandbox.change_subscription(shop.objects("subscription")[0]["id"], {"cancel_at": stamp(leaves)})
    shop.told()
    assert shop.read()["access"] == {"granted": True, "reason": "past_due_grace", "until": iso(leaves)}
