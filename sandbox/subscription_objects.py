"""Subscriptions, their items and their discounts as objects. `lifecycle` has what happens to them."""

from typing import Any

from . import forms, prices
from .calls import Call
from .errors import Json
from .lists import whole
from .periods import next_end

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
