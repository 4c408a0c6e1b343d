"""A subscription's life, by any cause: billed, renewed, forced into a status, ended."""

from fractions import Fraction
from typing import Any

from . import coupons
from .calls import Call
from .errors import Json
from .events import emit
from .invoice_objects import Line
from .invoices import Billed, bill, collect, void
from .paid_events import announce
from .periods import next_end
from .subscription_objects import ENDED, save

WHOLE = Fraction(1)


def charge_period(
    call: Call, subscription: Json, *, reason: str, method: Json | None, outcome: str = "paid", share: Fraction = WHOLE
) -> tuple[Json, Billed]:
    """Bills the current period; a coupon that applies once is spent by it. `share`: how much of it is due."""
    discount = next((call.store.get("discount", id) for id in subscription["discounts"]), None)
    coupon = call.store.get("coupon", discount["source"]["coupon"]) if discount else None
    lines = []
    for item in subscription["items"]["data"]:
        price, quantity = item["price"], item["quantity"]
        amount, off = coupons.priced(price, quantity, coupon, share)
        product = call.store.get("product", price["product"]) or {"name": "Subscription"}
        words = f"{product['name']}: nothing due yet" if share == 0 else f"{quantity} x {product['name']}"
        start, end = item["current_period_start"], item["current_period_end"]
        lines.append(Line(item["id"], price, quantity, amount, start, end, words, off))
    customer = call.named("customer", subscription["customer"])
    billed = bill(
        call,
        customer,
        subscription,
        lines,
        reason=reason,
        method=method,
        discount=discount["id"] if discount else None,
        outcome=outcome,
    )
    spent = coupon is not None and coupon["duration"] == "once" and share > 0
    subscription = call.store.change(
        "subscription",
        subscription["id"],
        latest_invoice=billed.last["id"],
        discounts=[] if spent else subscription["discounts"],
    )
    return subscription, billed


def end(call: Call, old: Json, *, status: str = "canceled", **details: Any) -> Json:
    """The subscription's end, with its event."""
    one = save(
        call,
        old,
        status=status,
        canceled_at=old["canceled_at"] or call.now,
        cancellation_details={**old["cancellation_details"], **details},
        ended_at=call.now,
    )
    if one["schedule"]:
        schedule = call.store.change("subscription_schedule", one["schedule"], status="canceled", canceled_at=call.now)
        emit(call, "subscription_schedule.canceled", schedule)
    emit(call, "customer.subscription.deleted" if status == "canceled" else "customer.subscription.updated", one,
         previous=None if status == "canceled" else old)  # fmt: skip
    return one


def abandon(call: Call, old: Json) -> Json:
    """The first payment will not come any more: nothing can be charged from here on, whatever a bank says later."""
    invoice = call.find("invoice", old["latest_invoice"])
    if invoice is not None and invoice["status"] == "open":
        invoice, intents = void(call, invoice)
        for intent in intents:
            emit(call, "payment_intent.canceled", intent)
        emit(call, "invoice.voided", invoice)
    return end(call, old, status="incomplete_expired")


def next_period(call: Call, old: Json) -> Json:
    """The period after the current one. A trial that is over becomes active, and its end the anchor."""
    start = max(item["current_period_end"] for item in old["items"]["data"])
    anchor = old["billing_cycle_anchor"]
    status = "active" if old["status"] == "trialing" else old["status"]
    return save(call, old, **period(old, start, anchor), status=status)


def force_status(call: Call, old: Json, status: str) -> Json:
    """Any status, from outside, with what would have led to it: a failed renewal, a late payment, an end."""
    if status == old["status"]:
        return old
    if status in ENDED:
        return end(call, old, status=status, reason="payment_failed")
    card = call.find("payment_method", old["default_payment_method"])
    invoice = call.find("invoice", old["latest_invoice"])
    is_open = invoice is not None and invoice["status"] == "open"
    billed = None
    one = old
    if status in ("past_due", "unpaid") and card and not is_open:
        one, billed = charge_period(call, old, reason="subscription_cycle", method=card, outcome="failed")
    elif status == "active" and card and invoice and is_open:
        billed = collect(call, invoice, card, succeeds=True)
    if billed is not None:
        announce(call, billed)
    return mark(call, one, status, before=old)


def mark(call: Call, one: Json, status: str, *, before: Json) -> Json:
    """The status alone, and its event."""
    ended = {"canceled_at": None, "ended_at": None} if before["status"] in ENDED else {}
    one = save(call, one, status=status, **ended)
    if status == "paused":
        emit(call, "customer.subscription.paused", one)
    elif before["status"] == "paused":
        emit(call, "customer.subscription.resumed", one)
    emit(call, "customer.subscription.updated", one, previous=before)
    return one


def cancel_all_of(call: Call, customer: str) -> None:
    for one in list(call.store.newest_first("subscription", customer=customer)):
        if one["status"] not in ENDED:
            end(call, one, reason="cancellation_requested")


def period(old: Json, start: int, anchor: int, *, end: int | None = None) -> Json:
    data = [
        {
            **item,
            "current_period_start": start,
            "current_period_end": end or next_end(anchor, start, item["price"]["recurring"]),
        }
        for item in old["items"]["data"]
    ]
    return {"items": {**old["items"], "data": data}, "billing_cycle_anchor": anchor}
