"""Access by the invoices of the plan's current period, and by whether anything was ever paid."""

import dataclasses
from datetime import timedelta
from typing import Any

import pytest

from billing.catalog import AccessRules
from billing.subscriptions.access import Access, decide_access
from billing.subscriptions.invoices import Payment, covering, judge, settles
from billing.subscriptions.projection import plan_item, project
from tests.support.builders import CATALOG, NOON, build_subscription, stamp

DAY = timedelta(days=1)
END = NOON + 30 * DAY
NOW = NOON + 5 * DAY


def line(starts=NOON, *, item="si_sub_1", price="price_kiloclaw_standard", proration=False) -> dict[str, Any]:
    """A line of an invoice."""
    return {
        "period": {"start": stamp(starts), "end": stamp(starts + 30 * DAY)},
        "parent": {"subscription_item_details": {"subscription_item": item, "proration": proration}},
        "pricing": {"price_details": {"price": price}},
    }


def invoice(status="paid", *lines, at=NOON, total=900, finalized=None, **more) -> dict[str, Any]:
    """An invoice over the current period, unless its lines say otherwise."""
    return {
        "id": f"in_{status}_{stamp(at)}",
        "status": status,
        "total": total,
        "created": stamp(at),
        "lines": {"data": list(lines) or [line(at)], "has_more": False},
        "status_transitions": {"finalized_at": None if status == "draft" else stamp(finalized or at)},
        **more,
    }


def small(status="paid", *, at=NOON + 2 * DAY, total=100) -> dict[str, Any]:
    """An invoice in the middle of a period, for the rest of it after a change."""
    return invoice(status, line(at, proration=True), at=at, total=total)


def add_on(status="paid", *, at=NOON + 2 * DAY) -> dict[str, Any]:
    """An invoice for something beside the plan."""
    return invoice(status, line(at, item="si_other", price="price_addon"), at=at)


def first(status="paid", *, at=NOON, ends=END) -> dict[str, Any]:
    """What a subscription began with, billed up to a chosen day: Stripe says proration of it."""
    part = line(at, proration=True)
    part["period"]["end"] = stamp(ends)
    return invoice(status, part, at=at, billing_reason="subscription_create")


FIRST = first()
MAILED = {"due_date": stamp(NOW + DAY)}
BEFORE = invoice("paid", at=NOON - 30 * DAY)
EARLIER = invoice("paid", at=NOON - 60 * DAY)
RENEWAL = invoice("draft", auto_advance=True)
FIRST_FAILED, OVERDUE = Payment.FIRST_FAILED, Payment.OVERDUE
CUT_OFF = {"lines": {"data": [], "has_more": True}, "billing_reason": "subscription_cycle"}
WRITTEN_OFF = {"status_details": {"uncollectible": {"reason": "max_payment_attempts"}}}


@pytest.mark.parametrize(
    ("status", "invoices", "payment"),
    [
        # nothing to say
        ("active", [invoice()], None),
        ("active", [], None),
        ("past_due", [], None),  # nobody knows: the status decides
        ("active", [BEFORE, invoice("draft")], None),
        ("active", [BEFORE, invoice("open")], None),  # a renewal by debit is on its way
        ("past_due", [BEFORE, invoice("open")], None),
        ("unpaid", [BEFORE, invoice("open")], None),
        ("trialing", [invoice("paid", total=0)], None),
        ("active", [BEFORE, invoice("void")], None),
        ("active", [BEFORE, invoice("uncollectible")], None),  # forgiven
        # the first payment
        ("active", [invoice("open")], Payment.FIRST_PENDING),
        ("active", [invoice("paid", at=NOON - 30 * DAY, total=0), invoice("open")], Payment.FIRST_PENDING),
        ("active", [invoice("draft")], None),  # after a trial: an hour before it is billed
        ("past_due", [invoice("open")], Payment.FIRST_FAILED),
        ("unpaid", [invoice("open")], Payment.FIRST_FAILED),
        ("past_due", [invoice("uncollectible", **WRITTEN_OFF)], Payment.FIRST_FAILED),
        ("past_due", [invoice("paid", at=NOON - 30 * DAY, total=0), invoice("open")], Payment.FIRST_FAILED),
        ("past_due", [invoice("open"), add_on("paid")], Payment.FIRST_FAILED),
        # a later invoice hides the period's one
        ("active", [BEFORE, invoice("open"), small("paid")], Payment.OVERDUE),
        ("active", [BEFORE, invoice("uncollectible", **WRITTEN_OFF), small("paid")], Payment.OVERDUE),
        ("active", [invoice("open"), add_on("paid")], Payment.FIRST_FAILED),
        ("active", [BEFORE, invoice("open"), small("draft")], None),
        ("active", [invoice(), small("open")], None),
        ("past_due", [invoice(), small("open")], Payment.PAID),
        ("unpaid", [invoice(), add_on("open")], Payment.PAID),
        # of one period billed twice, the newer counts
        ("past_due", [invoice(), invoice("open", line(), at=NOW)], None),
        ("active", [BEFORE, invoice("open"), invoice("paid", line(), at=NOW)], None),
        ("active", [BEFORE, invoice("open"), small("void")], None),  # the status is not a void one's
        ("active", [BEFORE, invoice("uncollectible"), small("paid")], None),  # forgiven
        # the newest is the one that was finalized last, whenever it was made
        ("past_due", [BEFORE, invoice("paid", finalized=NOW), invoice("open", line(), at=NOON + DAY)], Payment.PAID),
        (
            "past_due",
            [BEFORE, invoice("paid", finalized=NOW), invoice("open", line(), at=NOON + DAY, finalized=NOW)],
            None,
        ),
        # an invoice of which not all lines came
        ("past_due", [{**BEFORE, **CUT_OFF}, invoice("open")], None),
        ("past_due", [{**BEFORE, **CUT_OFF, "billing_reason": "manual"}, invoice("open")], Payment.FIRST_FAILED),
        # sent by mail, and not due yet
        ("active", [invoice("open", **MAILED), add_on("paid")], Payment.FIRST_PENDING),
        ("active", [invoice("open", **MAILED), add_on("open")], Payment.FIRST_PENDING),
        ("active", [BEFORE, invoice("open", **MAILED), small("paid")], None),
        ("active", [BEFORE, invoice("open", due_date=stamp(NOW)), small("paid")], Payment.OVERDUE),
        ("past_due", [BEFORE, invoice("open", **MAILED)], None),
        ("active", [invoice("open", at=NOON - 30 * DAY), invoice("open", **MAILED)], Payment.FIRST_FAILED),
        ("active", [invoice("void", at=NOON - 30 * DAY), invoice("open", **MAILED)], Payment.FIRST_PENDING),
        # what it began with was a part of a period
        ("past_due", [FIRST, small("open")], Payment.PAID),
        ("active", [FIRST, small("open")], None),
        ("past_due", [first("open")], Payment.FIRST_FAILED),
        ("past_due", [first(at=NOON - 10 * DAY), invoice("open")], None),
        ("past_due", [small("paid", at=NOON - 10 * DAY), invoice("open")], Payment.FIRST_FAILED),
        # what a credit note took off was not paid
        ("past_due", [{**BEFORE, "pre_payment_credit_notes_amount": 900}, invoice("open")], Payment.FIRST_FAILED),
        ("past_due", [{**BEFORE, "pre_payment_credit_notes_amount": 899}, invoice("open")], None),
        # while the renewal's invoice is a draft, the one before it decides
        ("past_due", [BEFORE, small("open", at=NOON - 10 * DAY), RENEWAL], Payment.PAID),
        ("past_due", [EARLIER, invoice("open", at=NOON - 30 * DAY), RENEWAL], None),
        ("active", [EARLIER, invoice("open", at=NOON - 30 * DAY), small("paid", at=NOON - 9 * DAY), RENEWAL], OVERDUE),
        ("active", [BEFORE, RENEWAL], None),
        ("active", [EARLIER, invoice("open", at=NOON - 30 * DAY), RENEWAL], None),  # a debit is on its way
        ("active", [invoice("open", at=NOON - 30 * DAY), add_on("paid", at=NOON - 9 * DAY), RENEWAL], FIRST_FAILED),
        # nothing is owed for the period, and something small is
        ("past_due", [BEFORE, invoice("void"), small("open")], Payment.PAID),
        ("past_due", [BEFORE, invoice("uncollectible"), small("open")], Payment.PAID),
        ("unpaid", [BEFORE, invoice("void"), add_on("open")], Payment.PAID),
        ("past_due", [invoice("void"), small("open")], Payment.PAID),  # given from the first day
        ("past_due", [EARLIER, invoice("open", at=NOON - 30 * DAY), invoice("void")], None),
        ("past_due", [BEFORE, invoice("void"), invoice("open", line(), at=NOW)], None),  # it was made anew
        ("past_due", [BEFORE, invoice("uncollectible", **WRITTEN_OFF), small("open")], None),
        # a draft that is never finalized: what Stripe makes of one that is unpaid
        ("unpaid", [BEFORE, small("open", at=NOON - 10 * DAY), invoice("draft", auto_advance=False)], None),
        # the plan's price on an item that was replaced since
        ("past_due", [invoice("paid", line(item="si_old")), small("open")], Payment.PAID),
    ],
)
def test_invoices_of_the_period_say_what_the_status_does_not(status, invoices, payment):
    """SUB-77, SUB-78, SUB-140, SUB-141"""
    subscription = build_subscription(status=status)
    item = plan_item(subscription, CATALOG)
    for order in (invoices, invoices[::-1]):
        assert judge(subscription, item, order, CATALOG, now=NOW).payment == payment


def test_collection_that_is_paused_is_no_arrears():
    """SUB-81: of invoices that nobody collects."""
    subscription = build_subscription(pause_collection={"behavior": "keep_as_draft"})
    found = judge(subscription, plan_item(subscription, CATALOG), [invoice("open"), add_on("paid")], CATALOG, now=NOW)
    assert found.payment is None


@pytest.mark.parametrize(
    ("invoices", "since"),
    [
        ([BEFORE, invoice("open")], NOON),
        ([BEFORE, invoice("open", at=NOON - 60 * DAY), invoice("open", at=NOON - 30 * DAY), invoice("open")], NOON),
        ([invoice("open", at=NOON - 60 * DAY), invoice("open")], NOON - 60 * DAY),
        ([BEFORE, invoice("open"), small("paid")], NOON),
        ([invoice("open", at=NOON - 30 * DAY), invoice("open"), small("paid")], NOON - 30 * DAY),
        ([small("open", at=NOON - 40 * DAY), invoice(), small("open")], NOON + 2 * DAY),  # not what was left before
        ([BEFORE, invoice("open", due_date=stamp(NOON + DAY))], NOON + DAY),
        ([invoice(), small("open")], NOON + 2 * DAY),
        ([BEFORE, invoice("open", at=NOON - 31 * DAY), invoice("void"), invoice("open", at=NOON + DAY)], NOON + DAY),
        ([invoice()], None),
        ([], None),
    ],
)
def test_since_when_something_is_owed_is_by_the_open_invoice(invoices, since):
    """SUB-7: the oldest one after the last that was paid; by its date where it is sent by mail."""
    subscription = build_subscription(status="past_due")
    assert judge(subscription, plan_item(subscription, CATALOG), invoices, CATALOG, now=NOW).past_due_since == since


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


GRACE = Access(True, "past_due_grace", NOON + 14 * DAY)


@pytest.mark.parametrize(
    ("status", "payment", "rules", "access"),
    [
        ("active", None, {}, Access(True, "active")),
        ("active", "first_pending", {}, Access(True, "active")),
        ("active", "first_pending", {"first_payment_pending": "deny"}, Access(False, "first_payment_pending")),
        ("active", None, {"first_payment_pending": "deny"}, Access(True, "active")),
        ("active", "first_failed", {}, Access(False, "past_due")),
        ("active", "overdue", {}, GRACE),
        ("active", "overdue", {"past_due_grace_days": 2}, Access(False, "past_due")),
        ("past_due", None, {}, GRACE),
        ("past_due", "first_failed", {}, Access(False, "past_due")),
        ("past_due", "first_failed", {"first_payment_pending": "grant"}, Access(False, "past_due")),
        ("past_due", "paid", {}, Access(True, "period_paid", END)),
        ("past_due", "paid", {"past_due_grace_days": 0}, Access(True, "period_paid", END)),
        ("unpaid", "paid", {}, Access(True, "period_paid", END)),
        ("unpaid", None, {}, Access(False, "unpaid")),
        ("unpaid", "first_failed", {"unpaid": "grant"}, Access(False, "unpaid")),
        ("unpaid", None, {"unpaid": "grant"}, Access(True, "unpaid")),
        ("canceled", "paid", {}, Access(False, "canceled")),
    ],
)
def test_money_and_status_decide_together(status, payment, rules, access):
    """SUB-11, SUB-77, SUB-78"""
    row = project(
        build_subscription(status=status), customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON
    )
    row = dataclasses.replace(row, payment=payment, past_due_since=NOON)
    assert decide_access([row], NOW, AccessRules(**rules)) == access
    if access.reason == "period_paid":
        late = decide_access([row], END + DAY, AccessRules(**rules))
        assert late == Access(False, status), "the period that was paid is over"


@pytest.mark.parametrize(("status", "payment"), [("past_due", None), ("active", "overdue")])
@pytest.mark.parametrize(
    ("planned", "days", "access"),
    [
        (NOW + DAY, 14, Access(True, "past_due_grace", NOW + DAY)),
        (NOW, 14, Access(False, "canceled")),
        (END, 14, GRACE),
        (END, 40, Access(True, "past_due_grace", END)),
        (NOW + DAY, 2, Access(False, "past_due")),
    ],
)
def test_grace_is_over_with_the_subscription(status, payment, planned, days, access):
    """SUB-11: its buyer canceled while past due, or support fixed an end."""
    built = build_subscription(status=status, cancel_at=stamp(planned))
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    row = dataclasses.replace(row, payment=payment, past_due_since=NOON)
    assert decide_access([row], NOW, AccessRules(past_due_grace_days=days)) == access


DEAR = "price_kiloclaw_commit"


def change(status="open", *, at=NOON + 2 * DAY, price=DEAR, quantity=1, amount=500, **parent) -> dict[str, Any]:
    """An invoice for a change in the middle of a period: the unused time back, the rest of it at the new price."""
    unused, rest = line(at, proration=True), line(at, price=price, proration=True)
    unused, rest = {**unused, "amount": -300, "quantity": 1}, {**rest, "amount": amount, "quantity": quantity}
    return invoice(status, unused, {**rest, **parent}, at=at, total=amount - 300)


BY_ITEM = {"parent": {"invoice_item_details": {"invoice_item": "ii_1", "proration": True}}}
BOUGHT = invoice("paid", {**line(), "amount": 900, "quantity": 1})


@pytest.mark.parametrize(
    ("item", "invoices", "shown"),
    [
        # another plan, and it is not paid
        ({"price": {"id": DEAR}}, [BOUGHT, change()], ("standard", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change(**BY_ITEM)], ("standard", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, {**change("uncollectible"), **WRITTEN_OFF}], ("standard", 1)),
        # seats
        ({"quantity": 50}, [BOUGHT, change(price="price_kiloclaw_standard", quantity=50)], ("standard", 1)),
        # seats in tiers, each with a line
        (
            {"quantity": 50},
            [
                invoice("paid", *({**line(), "amount": 500, "quantity": each} for each in (5, 3))),
                change(price="price_kiloclaw_standard", quantity=50),
            ],
            ("standard", 8),
        ),
        # something else is not paid
        ({"price": {"id": DEAR}}, [BOUGHT, change("paid"), add_on("open", at=NOON + 3 * DAY)], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, add_on("open")], ("commit", 1)),  # a gift of support's
        ({"price": {"id": DEAR}}, [BOUGHT, change(price="price_addon")], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change("void"), add_on("open", at=NOON + 3 * DAY)], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change("uncollectible"), add_on("open", at=NOW)], ("commit", 1)),
        # the second of two changes is not paid
        (
            {"price": {"id": DEAR}, "quantity": 9},
            [BOUGHT, change("paid", quantity=2), change(at=NOON + 3 * DAY, quantity=9)],
            ("commit", 2),
        ),
    ],
)
def test_plan_and_quantity_are_what_the_period_was_paid_for(item, invoices, shown):
    """SUB-121: a change whose invoice is not paid gives nothing before it is."""
    built = build_subscription(status="past_due", item=item)
    for order in (invoices, invoices[::-1]):
        money = judge(built, plan_item(built, CATALOG), order, CATALOG, now=NOW)
        assert money.payment is Payment.PAID
        row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
        assert (row.plan, row.quantity) == shown


@pytest.mark.parametrize(
    ("invoices", "plan"),
    [
        # the status is a later invoice's, and the change is not paid
        ([BOUGHT, change(), add_on("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, change(), small("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, {**change("uncollectible"), **WRITTEN_OFF}, add_on("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, {**change(), "due_date": stamp(NOON + 3 * DAY)}, add_on("paid", at=NOON + 3 * DAY)], "standard"),
        # it has not failed
        ([BOUGHT, change()], "commit"),  # by a debit, say: the status is its own
        ([BOUGHT, {**change(), **MAILED}, add_on("paid", at=NOON + 3 * DAY)], "commit"),
        ([BOUGHT, change("void"), add_on("paid", at=NOON + 3 * DAY)], "commit"),
        ([BOUGHT, change("paid"), add_on("paid", at=NOON + 3 * DAY)], "commit"),
        # the period is not paid at all
        ([BEFORE, invoice("open"), change(), add_on("paid", at=NOON + 3 * DAY)], "commit"),
    ],
)
def test_change_that_is_not_paid_gives_nothing_to_who_is_active_by_something_else(invoices, plan):
    """SUB-121: another card paid something small, and Stripe calls the subscription active."""
    built = build_subscription(item={"price": {"id": DEAR}})
    for order in (invoices, invoices[::-1]):
        money = judge(built, plan_item(built, CATALOG), order, CATALOG, now=NOW)
        row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
        assert row.plan == plan


def test_paid_price_that_is_not_sold_names_no_plan():
    """SUB-121: the plan is that of its price then."""
    built = build_subscription(status="past_due", item={"price": {"id": DEAR}})
    paid = invoice("paid", {**line(price="price_of_old"), "amount": 900, "quantity": 1})
    money = judge(built, plan_item(built, CATALOG), [paid, change()], CATALOG, now=NOW)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
    assert row.plan == "commit"


@pytest.mark.parametrize("status", ["active", "trialing", "past_due"])
@pytest.mark.parametrize(
    ("behavior", "resumes_at", "rule", "denied"),
    [
        ("void", None, "grant", False),
        ("void", None, "deny", True),
        ("keep_as_draft", NOW + DAY, "deny", True),
        ("mark_uncollectible", NOW, "deny", False),  # it has resumed, whatever event is still to come
        (None, None, "deny", False),
    ],
)
def test_paused_collection_has_a_row_in_the_catalog(status, behavior, resumes_at, rule, denied):
    """SUB-81"""
    pause = {"behavior": behavior, "resumes_at": resumes_at and stamp(resumes_at)} if behavior else None
    built = build_subscription(status=status, pause_collection=pause)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    access = decide_access([row], NOW, AccessRules(collection_paused=rule))
    assert (access.granted, access.reason == "collection_paused") == (not denied, denied)
