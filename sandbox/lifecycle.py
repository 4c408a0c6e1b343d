"""A subscription's life, whoever causes it: begun, billed, renewed, forced into a status, ended."""

from fractions import Fraction
from typing import Any

from . import coupons, forms, prices
from .calls import Call
from .errors import Json
from .events import emit
from .invoice_objects import Line
from .invoices import Billed, bill, collect, void
from .lists import whole
from .paid_events import announce
from .periods import next_end

WHOLE = Fraction(1)
ENDED = ("canceled", "incomplete_expired")
STATUSES = ("active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
_INCOMPLETE_LASTS = 23 * 3600


def new(
    call: Call,
    customer: Json,
    wanted: list[Json],
    *,
    metadata: Json | None = None,
    description: str | None = None,
    trial_end: int | None = None,
    anchor: int | None = None,
    coupon: Json | None = None,
    method: Json | None = None,
    status: str | None = None,
    automatic_tax: bool = False,
) -> Json:
    """A subscription to `wanted` ([{price, quantity}]), without its invoice. The caller bills and announces it."""
    id = call.store.new_id("sub_1")
    trialing = trial_end is not None and trial_end > call.now
    anchor = (trial_end if trialing else anchor) or call.now
    end = anchor if anchor > call.now else next_end(anchor, call.now, wanted[0]["price"]["recurring"])
    one: Json = {
        "id": id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {
            "disabled_reason": None,
            "enabled": automatic_tax,
            "liability": {"type": "self"} if automatic_tax else None,
        },
        "billing_cycle_anchor": anchor,
        "billing_cycle_anchor_config": None,
        "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
        "billing_schedules": [],
        "billing_thresholds": None,
        "cancel_at": None,
        "cancel_at_period_end": False,
        "canceled_at": None,
        "cancellation_details": {"comment": None, "feedback": None, "reason": None},
        "collection_method": "charge_automatically",
        "created": call.now,
        "currency": wanted[0]["price"]["currency"],
        "customer": customer["id"],
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": method["id"] if method else None,
        "default_source": None,
        "default_tax_rates": [],
        "description": description,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": whole(
            [item(call, id, each["price"], each["quantity"], call.now, end) for each in wanted],
            f"/v1/subscription_items?subscription={id}",
        ),
        "latest_invoice": None,
        "livemode": call.livemode,
        "managed_payments": {"enabled": False},
        "metadata": forms.merge_metadata({}, metadata),
        "next_pending_invoice_item_invoice": None,
        "on_behalf_of": None,
        "pause_collection": None,
        "payment_settings": {
            "payment_method_options": None,
            "payment_method_types": None,
            "save_default_payment_method": "off",
        },
        "pending_invoice_item_interval": None,
        "pending_setup_intent": None,
        "pending_update": None,
        "schedule": None,
        "start_date": call.now,
        "status": status or ("trialing" if trialing else "active"),
        "test_clock": None,
        "transfer_data": None,
        "trial_end": trial_end if trialing else None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": call.now if trialing else None,
    }
    if coupon is not None:
        one["discounts"] = [new_discount(call, coupon, customer["id"], id)["id"]]
    return call.store.put("subscription", {**one, "_due": _due(one)})


def item(call: Call, subscription: str, price: Json, quantity: int, start: int, end: int) -> Json:
    return {
        "id": call.store.new_id("si_", 14),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": call.now,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "plan": prices.plan_of(price),
        "price": price,
        "quantity": quantity,
        "subscription": subscription,
        "tax_rates": [],
    }


def new_discount(call: Call, coupon: Json, customer: str, subscription: str) -> Json:
    end = None
    if coupon["duration"] == "repeating":
        recurring = {"interval": "month", "interval_count": coupon["duration_in_months"]}
        end = next_end(call.now, call.now, recurring)
    call.store.change("coupon", coupon["id"], times_redeemed=coupon["times_redeemed"] + 1)
    return call.store.put(
        "discount",
        {
            "id": call.store.new_id("di_1"),
            "object": "discount",
            "checkout_session": None,
            "customer": customer,
            "customer_account": None,
            "end": end,
            "invoice": None,
            "invoice_item": None,
            "promotion_code": None,
            "source": {"coupon": coupon["id"], "type": "coupon"},
            "start": call.now,
            "subscription": subscription,
            "subscription_item": None,
        },
    )


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
    """The subscription's end, whoever wants it, with its event."""
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


def _due(one: Json) -> float | None:
    """When `cycle.py` has to look at it again."""
    if one["status"] in ENDED or one["status"] == "paused":
        return None
    if one["status"] == "incomplete":
        return float(one["created"] + _INCOMPLETE_LASTS)
    ends = [item["current_period_end"] for item in one["items"]["data"]]
    return float(min([*ends, *([one["cancel_at"]] if one["cancel_at"] else [])]))


def save(call: Call, old: Json, **fields: Any) -> Json:
    after = {**old, **fields}
    return call.store.change("subscription", old["id"], **fields, _due=_due(after))
