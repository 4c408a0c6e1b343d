"""Which invoices are for the plan's running period, and what is read of them."""

from datetime import timedelta

import pytest

from billing.subscriptions.invoices import Payment, covering, judge, settles
from billing.subscriptions.projection import plan_item
from tests.support.builders import CATALOG, NOON, build_subscription
from tests.support.invoices import (
    BEFORE,
    CUT_OFF,
    DAY,
    END,
    FIRST,
    NOW,
    add_on,
    first,
    invoice,
    line,
    small,
)


@pytest.mark.parametrize(
    ("found", "covers"),
    [
        (invoice(), True),
        (invoice("open"), True),
        (invoice("draft"), False),
        (invoice("void"), False),
        (small(), False),
        (add_on(), False),
        (BEFORE, False),
        (invoice("paid", line(NOON - 10 * DAY)), False),  # of a period that a change of interval ended
        (invoice("paid", line(END)), False),  # the period to come
        (invoice("paid", line(END - timedelta(seconds=1))), True),
        (invoice("paid", line(price="price_elsewhere")), True),  # the plan's own item
        (invoice("paid", {**line(), "parent": {"invoice_item_details": {"proration": False}}}), False),
        ({**invoice(), **CUT_OFF, "lines": {"data": [line(NOON - 10 * DAY)], "has_more": True}}, False),
        (FIRST, True),
        (first(at=NOON - 40 * DAY), True),  # backdated
        (first(at=NOON - 40 * DAY, ends=NOON), False),
        ({"status": "paid", "lines": None}, False),
        ({**invoice(), "lines": {"data": [], "has_more": True}, "billing_reason": "subscription_cycle"}, True),
        ({**invoice(), "lines": {"data": [], "has_more": True}, "billing_reason": "manual"}, False),
    ],
)
def test_line_that_begins_within_the_period_covers_it(found, covers):
    """SUB-77"""
    item = plan_item(build_subscription(), CATALOG)
    assert bool(covering(item, [found], CATALOG)) is covers


USE = {"id": "price_kiloclaw_standard", "recurring": {"interval": "month", "usage_type": "metered"}}


@pytest.mark.parametrize(
    ("starts", "covers"),
    [
        (NOON - 30 * DAY, True),  # billed when the running period began, for the one before
        (NOON - 60 * DAY, False),
        (NOON, True),  # the first one, over nothing, or one that a threshold brought
    ],
)
def test_use_is_covered_by_the_invoice_that_came_after_it(starts, covers):
    """SUB-77: a plan that is billed by use."""
    item = plan_item(build_subscription(item={"price": USE}), CATALOG)
    found = invoice("paid", line(starts), at=starts + 30 * DAY)
    assert bool(covering(item, [found], CATALOG)) is covers


def test_dispute_of_the_last_use_is_not_hidden_by_a_small_invoice():
    """SUB-60, SUB-77: and an invoice of the period is no second request."""
    built = build_subscription(item={"price": USE}, latest_invoice=invoice("paid", line(NOON - 30 * DAY), at=NOON))
    assert settles(built, plan_item(built, CATALOG), CATALOG)


def test_line_of_another_price_of_the_plans_product_is_the_plans():
    """SUB-73, SUB-77: the item was replaced since, and the catalog names the product alone."""
    plans = {key: plan.model_copy(update={"stripe_product": f"prod_{key}"}) for key, plan in CATALOG.plans.items()}
    catalog = CATALOG.model_copy(update={"plans": plans})
    price = {"id": "price_new", "product": "prod_standard", "recurring": {"interval": "month", "interval_count": 1}}
    built = build_subscription(status="past_due", item={"price": price})
    of_old = line(item="si_old", price="price_old")
    of_old["pricing"]["price_details"]["product"] = "prod_standard"
    found = judge(built, plan_item(built, catalog), [invoice("paid", of_old), small("open")], catalog, now=NOW)
    assert found.payment == Payment.PAID


@pytest.mark.parametrize(
    ("status", "latest", "enough"),
    [
        ("active", invoice(), True),
        ("active", None, True),
        ("active", "in_1", False),
        ("active", small(), False),
        ("active", invoice("open"), False),
        ("active", invoice("draft"), False),
        ("past_due", invoice("open"), False),
        ("past_due", invoice("paid"), False),  # the status is not that one's
        ("past_due", small("open"), False),
        ("unpaid", invoice("open"), False),
        ("trialing", invoice("paid", total=0), True),
        ("canceled", invoice("open"), True),
        ("incomplete", invoice("open"), True),
    ],
)
def test_paid_invoice_of_the_period_is_all_that_is_read(status, latest, enough):
    """SUB-79"""
    subscription = build_subscription(status=status, latest_invoice=latest)
    assert settles(subscription, plan_item(subscription, CATALOG), CATALOG) is enough
