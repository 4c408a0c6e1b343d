"""Subscriptions, their items and their discounts as objects. `lifecycle` has what happens to them."""

from typing import Any

from . import discounts, forms, prices
from .calls import Call
from .errors import Json
from .lists import whole
from .periods import next_end

ENDED = ("canceled", "incomplete_expired")
STATUSES = ("active", "canceled", "incomplete", "incomplete_expired", "past_due", "paused", "trialing", "unpaid")
TOLD_BEFORE = 3 * 86400  # the end of a trial
_INCOMPLETE_LASTS = 23 * 3600


def new(
    call: Call,
    customer: Json,
    wanted: list[Json],
    *,
    trial_end: int | None = None,
    anchor: int | None = None,
    found: list[Json] | None = None,
    **fields: Any,
) -> Json:
    """A subscription to `wanted` (see `subscription_items`), without its invoice. The caller bills and announces it.

    `found` are the discounts of `discounts.wanted`; `fields` are kept as they are, None ones left as they begin.
    """
    id = call.store.new_id("sub_1")
    trialing = trial_end is not None and trial_end > call.now
    anchor = (trial_end if trialing else anchor) or call.now
    one: Json = {
        **_blank(call, id, customer["id"], wanted[0]["price"]["currency"]),
        "billing_cycle_anchor": anchor,
        "items": whole(
            [item(call, id, customer["id"], each, call.now, _first_end(call, each, anchor)) for each in wanted],
            f"/v1/subscription_items?subscription={id}",
        ),
        "status": "trialing" if trialing else "active",
        "trial_end": trial_end if trialing else None,
        "trial_start": call.now if trialing else None,
        **{name: value for name, value in fields.items() if value is not None},
    }
    one["discounts"] = discounts.made(call, found or [], customer["id"], id)
    return call.store.put("subscription", {**one, "_due": _due(one)})


def _first_end(call: Call, wanted: Json, anchor: int) -> int:
    return anchor if anchor > call.now else next_end(anchor, call.now, wanted["price"]["recurring"])


def _blank(call: Call, id: str, customer: str, currency: str) -> Json:
    """As Stripe begins one of which nothing is said."""
    return {
        "id": id,
        "object": "subscription",
        "application": None,
        "application_fee_percent": None,
        "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
        "billing_cycle_anchor": call.now,
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
        "currency": currency,
        "customer": customer,
        "customer_account": None,
        "days_until_due": None,
        "default_payment_method": None,
        "default_source": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "ended_at": None,
        "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
        "items": whole([], ""),
        "latest_invoice": None,
        "livemode": call.livemode,
        "managed_payments": {"enabled": False},
        "metadata": {},
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
        "status": "active",
        "test_clock": call.test_clock,
        "transfer_data": None,
        "trial_end": None,
        "trial_settings": {"end_behavior": {"missing_payment_method": "create_invoice"}},
        "trial_start": None,
    }


def item(call: Call, subscription: str, customer: str, wanted: Json, start: int, end: int) -> Json:
    """One item. A metered price has no quantity, not even null."""
    id = call.store.new_id("si_", 14)
    return {
        "id": id,
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": call.now,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": discounts.made(call, wanted.get("discounts") or [], customer, subscription, id),
        "metadata": forms.merge_metadata({}, wanted.get("metadata")),
        "plan": prices.plan_of(wanted["price"]),
        "price": wanted["price"],
        **({} if wanted["quantity"] is None else {"quantity": wanted["quantity"]}),
        "subscription": subscription,
        "tax_rates": wanted.get("tax_rates") or [],
    }


def started(call: Call, one: Json) -> Json:
    """An item whose period begins now."""
    end = next_end(call.now, call.now, one["price"]["recurring"])
    return {**one, "current_period_start": call.now, "current_period_end": end}


def _due(one: Json) -> float | None:
    """When `cycle.py` has to look at it again."""
    if one["status"] in ENDED:
        return None
    if one["status"] == "paused":  # no period begins, and a planned end comes all the same
        return float(one["cancel_at"]) if one["cancel_at"] else None
    if one["status"] == "incomplete":
        return float(one["created"] + _INCOMPLETE_LASTS)
    moments = [item["current_period_end"] for item in one["items"]["data"]]
    resumes_at = (one["pause_collection"] or {}).get("resumes_at")
    tells = one["status"] == "trialing" and one["trial_end"] and one.get("_told_of") != one["trial_end"]
    told_at = one["trial_end"] - TOLD_BEFORE if tells else None
    others = (one["cancel_at"], resumes_at, one.get("_phase_ends_at"), told_at)
    return float(min([*moments, *(at for at in others if at)]))


def save(call: Call, old: Json, **fields: Any) -> Json:
    after = {**old, **fields}
    return call.store.change("subscription", old["id"], **fields, _due=_due(after))
