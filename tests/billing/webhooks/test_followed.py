"""Each followed type, alone, brings the projection up to date; and what no money or late money means for access."""

import re

import pytest
import sqlalchemy as sa
from stripe.params import WebhookEndpointCreateParams

from billing.models import events
from billing.subscriptions import projection_store
from billing.webhooks.event_types import FOLLOWED
from tests.billing.webhooks.test_process_sandbox import read
from tests.support.builders import build_event, build_subscription

# What the events of a type are about, by the longest beginning that fits.
SUBJECTS = {
    "checkout.session.": {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"},
    "customer.": {"id": "cus_1", "object": "customer"},
    "customer.subscription.": build_subscription(status="incomplete"),
    "invoice.": {"id": "in_1", "object": "invoice", "customer": "cus_1", "total": 0},
    "charge.": {"id": "ch_1", "object": "charge", "customer": "cus_1"},
    "charge.dispute.": {"id": "dp_1", "object": "dispute", "charge": "ch_1"},
    "charge.refund.": {"id": "re_1", "object": "refund", "charge": "ch_1"},
    "refund.": {"id": "re_1", "object": "refund", "charge": "ch_1"},
    "subscription_schedule.": {"id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_1"},
    "entitlements.": {"object": "entitlements.active_entitlement_summary", "customer": "cus_1"},
}
# Of what else Stripe sends about an invoice, a charge or a customer, these change what somebody may use.
ALONE = {f"invoice.{what}" for what in ("paid", "payment_failed", "payment_action_required", "voided")}
ALONE |= {"invoice.marked_uncollectible", "charge.refunded", "customer.updated", "customer.deleted"}
ALONE |= {"entitlements.active_entitlement_summary.updated"}
FAMILIES = ("customer.subscription.", "subscription_schedule.", "charge.dispute.", "charge.refund.", "refund.")
FAMILIES += ("checkout.session.",)


@pytest.mark.parametrize("type", FOLLOWED)
def test_any_followed_event_alone_brings_the_projection_up_to_date(stripe, record, work, database, type):
    """WHK-13, WHK-15: it may be the only one that comes."""
    stripe.put(build_subscription(status="active"), SUBJECTS["charge."], SUBJECTS["checkout.session."])
    subject = SUBJECTS[max((start for start in SUBJECTS if type.startswith(start)), key=len)]
    work(record(build_event(type, subject)))
    with database.read() as connection:
        [row] = projection_store.read_subscriptions(connection, "cus_1")
        assert connection.scalars(sa.select(events.c.status)).all() == ["done"]
    assert row.status == "active"


def test_whole_families_are_followed_and_some_types_of_others():
    """WHK-15: of subscriptions, schedules, disputes, refunds and sessions all that Stripe sends; and what is named."""
    listed = re.findall(r"[a-z_]+(?:\.[a-z_]+)+", str(WebhookEndpointCreateParams.__annotations__["enabled_events"]))
    families = {type for type in listed if type.startswith(FAMILIES)}
    assert len(families) > 20
    assert families | ALONE == set(FOLLOWED)


# --- no money, and money on its way


def subscribe(shop, **how):
    """A subscription of the buyer's that was made with these parameters, its events delivered and worked."""
    shop.served("standard")
    plan, [customer] = shop.catalog.plans["standard"], shop.objects("customer")
    given = {"customer": customer["id"], "items": [{"price": plan.price}], "metadata": {"type": shop.catalog.product}}
    shop.sandbox.give_card(customer["id"])
    answer = shop.sandbox.request("POST", "/v1/subscriptions", given | how)
    assert answer.status == 200, answer.body
    tell(shop)
    return answer.body


def tell(shop):
    """Whatever happened is delivered, newest first, and worked."""
    shop.deliver(shop.made()[::-1])
    shop.work_events()


def access(shop):
    """Whether the buyer has access, and why."""
    answer = read(shop)["access"]
    return answer["granted"], answer["reason"]


def test_trial_gives_access_and_its_end_is_judged_by_what_comes_of_it(shop):
    """SUB-10: its first invoice is over zero and paid."""
    subscription = subscribe(shop, trial_period_days=7)
    [invoice] = shop.objects("invoice")
    assert (invoice["total"], invoice["status"], shop.objects("charge")) == (0, "paid", [])
    assert access(shop) == (True, "trialing")
    shop.clock.advance(days=8)
    tell(shop)
    assert access(shop) == (True, "active")
    shop.sandbox.force_status(subscription["id"], "paused")  # a trial that ends without a card
    tell(shop)
    assert access(shop) == (False, "paused")


def test_invoice_over_nothing_is_as_good_as_a_paid_one(shop):
    """SUB-10: a discount of everything; there is no charge and no payment that could tell of it."""
    shop.sandbox.request("POST", "/v1/coupons", {"id": "all_of_it", "percent_off": 100, "duration": "forever"})
    subscribe(shop, discounts=[{"coupon": "all_of_it"}])
    [invoice] = shop.objects("invoice")
    assert (invoice["total"], invoice["status"], shop.objects("charge")) == (0, "paid", [])
    assert access(shop) == (True, "active")


def test_paid_invoice_of_nothing_gives_nothing_where_stripe_says_otherwise(shop):
    """SUB-12: `invoice.paid` is a hint; what counts is the subscription."""
    subscription = subscribe(shop, trial_period_days=7)
    shop.sandbox.force_status(subscription["id"], "canceled")
    shop.deliver(event for event in shop.made() if event["type"] == "invoice.paid")
    again = next(event for event in shop.made() if event["type"] == "invoice.paid")
    shop.deliver([again | {"id": "evt_again"}])
    shop.work_events()
    assert access(shop) == (False, "canceled")


def test_delayed_payment_gives_what_stripe_gives_until_it_arrives_or_fails(shop):
    """SUB-12, SUB-11: completed and unpaid is no access where the subscription waits, and the end decides."""
    checkout = shop.served("standard")
    shop.sandbox.pay(checkout.session_id, delayed=True)
    [subscription] = shop.objects("subscription")
    shop.sandbox.force_status(subscription["id"], "incomplete")
    tell(shop)
    assert shop.objects("checkout_session")[0]["payment_status"] == "unpaid"
    assert access(shop) == (False, "incomplete")
    shop.sandbox.force_status(subscription["id"], "active")
    shop.sandbox.settle(checkout.session_id)
    shop.deliver(event for event in shop.made() if event["type"] == "checkout.session.async_payment_succeeded")
    shop.work_events()
    assert access(shop) == (True, "active")


def test_delayed_payment_that_fails_is_in_arrears_and_ends_with_stripe(shop):
    """SUB-78, SUB-12: told by `checkout.session.async_payment_failed` alone."""
    checkout = shop.served("standard")
    shop.sandbox.pay(checkout.session_id, delayed=True)
    tell(shop)
    assert access(shop) == (True, "active")
    shop.sandbox.settle(checkout.session_id, succeeds=False)
    shop.deliver(event for event in shop.made() if event["type"] == "checkout.session.async_payment_failed")
    shop.work_events()
    assert access(shop) == (False, "past_due")
    shop.sandbox.force_status(shop.objects("subscription")[0]["id"], "unpaid")
    tell(shop)
    assert access(shop) == (False, "unpaid")
