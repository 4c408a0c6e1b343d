"""Invoices of a subscription, as Stripe has them: around noon of the first day of a period of thirty."""

from datetime import timedelta
from typing import Any

from billing.subscriptions.invoices import Payment
from tests.support.builders import NOON, stamp

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
