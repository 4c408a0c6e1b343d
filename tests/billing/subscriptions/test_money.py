"""Access by what was billed and paid, from the buyer's payment to the answer."""

from datetime import timedelta
from typing import Any

import pytest

from billing.clock import iso
from billing.customers.customers import claim_customer
from tests.support.access_world import Shop as Ruled
from tests.support.builders import NOON, stamp

DAY = timedelta(days=1)


class Shop(Ruled):
    """A shop whose buyers pay in many ways."""

    def debit(self, *, succeeds: bool | None) -> dict[str, Any]:
        """A first payment by debit: None while it is on its way."""
        session = str(self.served().session_id)
        self.sandbox.pay(session, delayed=True)
        if succeeds is not None:
            self.sandbox.settle(session, succeeds=succeeds)
        self.told()
        return self.objects("subscription")[0]

    def bill(self) -> None:
        """Something small is added in the middle of the period, and billed at once."""
        month = {"interval": "month"}
        addon = {"object": "price", "id": "price_addon", "unit_amount": 300, "currency": "usd", "recurring": month}
        self.sandbox.seed([addon])
        subscription = self.objects("subscription")[0]["id"]
        added = {"items": [{"price": "price_addon"}], "proration_behavior": "always_invoice"}
        self.sandbox.change_subscription(subscription, added)

    def cards_decline(self) -> None:
        """From now on."""
        for card in self.objects("payment_method"):
            self.sandbox.card_answers(card["id"], "generic_decline")

    def another_card(self) -> None:
        """It pays for the subscription from now on."""
        subscription = self.objects("subscription")[0]
        whose = {"customer": subscription["customer"]}
        card = self.sandbox.request("POST", "/v1/payment_methods/pm_card_visa/attach", whose).body["id"]
        self.sandbox.change_subscription(subscription["id"], {"default_payment_method": card})


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


@pytest.mark.parametrize("rule", ["grant", "deny"])
def test_first_debit_on_its_way_is_the_catalogs_decision(shop, rule):
    """SUB-78"""
    shop.rule(first_payment_pending=rule)
    shop.debit(succeeds=None)
    assert shop.reason() == ((True, "active") if rule == "grant" else (False, "first_payment_pending"))
    shop.sandbox.settle(shop.sessions("complete")[0]["id"], succeeds=True)
    shop.told()
    assert shop.reason() == (True, "active")
    assert shop.read()["subscription"]["payment"] is None


def test_first_debit_that_bounces_brings_no_grace(shop):
    """SUB-78: nothing was ever paid."""
    subscription = shop.debit(succeeds=False)
    assert subscription["status"] == "past_due"
    assert shop.reason() == (False, "past_due")
    assert shop.read()["subscription"]["payment"] == "first_failed"


def test_trial_that_ends_with_a_declined_card_brings_no_grace(shop):
    """SUB-78: the trial's invoice is paid, over nothing."""
    ends = stamp(shop.clock.now() + 10 * DAY)
    plan = shop.catalog.plans["standard"].model_copy(update={"trial_end": ends})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "standard": plan}})
    shop.subscribe("user_1")
    shop.told()
    assert shop.reason() == (True, "trialing")
    shop.cards_decline()
    shop.renew()
    shop.told()
    assert shop.reason() == (False, "past_due")


def test_renewal_that_fails_brings_grace_from_its_invoice(shop):
    """SUB-7, SUB-11: not from when we heard of it."""
    customer = shop.subscribe("user_1")
    shop.told()
    shop.cards_decline()
    shop.renew()
    finalized = shop.objects("invoice")[0]["status_transitions"]["finalized_at"]
    shop.clock.advance(days=2)
    shop.sync(customer)
    read = shop.read()
    assert read["subscription"]["past_due_since"] == iso(NOON.fromtimestamp(finalized, NOON.tzinfo))
    assert read["access"]["until"] == iso(NOON.fromtimestamp(finalized, NOON.tzinfo) + 14 * DAY)


def test_customer_taken_over_while_long_past_due_gets_no_new_grace(shop):
    """SUB-7, SUB-70"""
    shop.sandbox.seed([{"object": "customer", "id": "cus_9", "card": "pm_card_visa"}])
    price = shop.catalog.plans["standard"].price
    shop.sandbox.request("POST", "/v1/subscriptions", {"customer": "cus_9", "items": [{"price": price}]})
    shop.sandbox.settings(after_retries="past_due")
    shop.cards_decline()
    shop.renew()
    shop.clock.advance(days=20)
    shop.sandbox.tick()
    claim_customer("user_1", "cus_9", database=shop.database, clock=shop.clock)
    shop.sync_taken_over()
    assert shop.read()["subscription"]["status"] == "past_due"
    assert shop.reason() == (False, "past_due")


def test_dispute_is_not_forgotten_once_a_small_invoice_comes(shop):
    """SUB-60"""
    shop.rule(disputed="deny")
    shop.subscribe("user_1")
    charge, latest = shop.objects("charge")[0]["id"], shop.objects("invoice")[0]["id"]
    shop.sandbox.dispute(charge)
    shop.told()
    assert shop.reason() == (False, "disputed")
    shop.clock.advance(days=2)
    shop.bill()
    assert len({one["latest_invoice"] for one in shop.objects("subscription")} | {latest}) == 2
    shop.told()
    assert shop.reason() == (False, "disputed")
    shop.sandbox.dispute(charge, "won")
    shop.told()
    assert shop.reason() == (True, "active")


def test_dispute_of_the_latest_invoice_counts_where_no_line_says_its_period(shop):
    """SUB-60"""
    shop.rule(disputed="deny")
    shop.subscribe("user_1")
    real = shop.stripe.list_invoices
    shop.stripe.list_invoices = lambda id_: [{**one, "lines": {"data": []}} for one in real(id_)]
    shop.sandbox.dispute(shop.objects("charge")[0]["id"])
    shop.told()
    assert shop.reason() == (False, "disputed")


def test_small_invoice_that_fails_takes_no_paid_period_away(shop):
    """SUB-77"""
    shop.subscribe("user_1")
    shop.cards_decline()
    shop.clock.advance(days=2)
    shop.bill()
    assert shop.objects("subscription")[0]["status"] == "past_due"
    shop.told()
    assert shop.reason() == (True, "period_paid")
    assert shop.read()["access"]["until"] == shop.read()["subscription"]["current_period_end"]


def test_ordinary_subscription_costs_no_further_request(shop):
    """SUB-79"""
    customer = shop.subscribe("user_1")
    before = len(shop.requests("GET"))
    shop.sync(customer)
    asked = {one["path"] for one in shop.requests("GET")[before:]}  # in parallel: either may be first
    assert (asked, len(shop.requests("GET")) - before) == ({"/v1/subscriptions", f"/v1/customers/{customer}"}, 2)


def test_renewal_that_failed_costs_one_request_more(shop):
    """SUB-79: disputes are asked about after an event about them, not beside what is past due."""
    customer = shop.subscribe("user_1")
    shop.cards_decline()
    shop.renew()
    shop.sync(customer)
    before = len(shop.requests("GET"))
    shop.sync(customer)
    both, then = ["/v1/subscriptions", f"/v1/customers/{customer}"], "/v1/invoices"
    asked = [one["path"] for one in shop.requests("GET")[before:]]
    assert (sorted(asked[:2]), asked[2:]) == (sorted(both), [then])  # both in parallel: either may be first


def test_paused_collection_is_shown_and_may_deny(shop):
    """SUB-81"""
    shop.subscribe("user_1")
    shop.told()
    resumes = shop.clock.now() + 40 * DAY
    pause = {"pause_collection": {"behavior": "void", "resumes_at": stamp(resumes)}}
    shop.sandbox.change_subscription(shop.objects("subscription")[0]["id"], pause)
    shop.told()
    assert shop.read()["subscription"]["pause_collection"] == {"behavior": "void", "resumes_at": iso(resumes)}
    assert shop.reason() == (True, "active")
    shop.renew()
    shop.told()
    assert shop.reason() == (True, "active"), "its invoice is void, and nothing is owed"
    shop.rule(collection_paused="deny")
    assert shop.reason() == (False, "collection_paused")
    shop.clock.advance(days=11)
    assert shop.reason() == (True, "active"), "it has resumed"
