"""Access by the invoices of the plan's current period, and by whether anything was ever paid."""

import dataclasses

import pytest

from billing.catalog import AccessRules
from billing.subscriptions.access import Access, decide_access
from billing.subscriptions.invoices import Payment, judge
from billing.subscriptions.projection import plan_item, project
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.invoices import (
    BEFORE,
    CUT_OFF,
    DAY,
    EARLIER,
    END,
    FIRST,
    FIRST_FAILED,
    MAILED,
    NOW,
    OVERDUE,
    RENEWAL,
    WRITTEN_OFF,
    add_on,
    first,
    invoice,
    line,
    small,
)


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
        ("past_due", [BEFORE, invoice("uncollectible")], None),  # nothing else says why: Stripe may have given it up
        ("unpaid", [BEFORE, invoice("void")], None),
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
