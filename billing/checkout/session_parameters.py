"""What a session is created with, complete before the attempt is stored (LAN-6).

The price, the coupon, the trial and the billing start are the catalog's. The addresses, the reference, the quantity and
the metadata are the buyer's. Tag and nonce go on the session and on the subscription it makes (CHK-3).
"""

from datetime import datetime
from typing import Any

from billing.catalog import Catalog, Plan
from billing.checkout.rules import Checkout
from billing.rules.product_tag import tag

# The fields of a plan that a session is made from.
TERMS = {"metered", "coupon", "coupon_for", "allow_promotion_codes", "trial_days", "missing_payment_method",
         "trial_end", "billing_starts_at"}  # fmt: skip
# Stripe wants a trial's end at least 48 h ahead when the session is made; 1 h for clocks and an attempt sent late.
LEAST_TRIAL_SECONDS = 49 * 3600


def session_parameters(
    checkout: Checkout,
    *,
    catalog: Catalog,
    user_id: str,
    customer_id: str,
    nonce: str,
    expires_at: datetime,
    first_time: bool,
    first_trial: bool = False,
    now: datetime,
) -> dict[str, Any]:
    """What is sent, and sent again unchanged by a worker that takes the attempt over.

    `first_time` and `first_trial`: whether this user may have a coupon for first-time buyers, and a trial of days.
    """
    request = checkout.request
    plan = catalog.plans.get(checkout.plan)
    metadata = {**request["metadata"], **tag(catalog.product, nonce=nonce, user_id=user_id)}
    trial = _trial(plan) if first_trial else {}
    quantity = {} if request["quantity"] is None else {"quantity": request["quantity"]}
    parameters: dict[str, Any] = {
        **({"payment_method_collection": "if_required"} if "trial_settings" in trial else {}),
        **catalog.session,
        "mode": "subscription",
        "customer": customer_id,
        "line_items": [{"price": checkout.price_id, **quantity}],
        "success_url": request["success_url"],
        "cancel_url": request["cancel_url"],
        "expires_at": int(expires_at.timestamp()),
        "metadata": metadata,
        "subscription_data": {"metadata": metadata, **trial, **_billing_start(plan, now)},
    }
    # The user's id, unless the application gives a reference of its own: a person searches for it in the Dashboard.
    parameters["client_reference_id"] = request["client_reference_id"] or user_id
    # Stripe takes discounts or allow_promotion_codes, never both, even as false.
    if plan and plan.coupon and (first_time or plan.coupon_for == "everyone"):
        parameters["discounts"] = [{"coupon": plan.coupon}]
    elif plan and plan.allow_promotion_codes:
        parameters["allow_promotion_codes"] = True
    return parameters


def _trial(plan: Plan | None) -> dict[str, Any]:
    """A trial of days. Without a word about a missing card Checkout asks for one, and the trial ends in an invoice."""
    if plan is None or plan.trial_days is None:
        return {}
    ends = {"missing_payment_method": plan.missing_payment_method}
    settings = {"trial_settings": {"end_behavior": ends}} if plan.missing_payment_method else {}
    return {"trial_period_days": plan.trial_days, **settings}


def _billing_start(plan: Plan | None, now: datetime) -> dict[str, Any]:
    """A billing start in the future; where it has passed, Stripe bills at once."""
    if plan and plan.trial_end and plan.trial_end > now.timestamp() + LEAST_TRIAL_SECONDS:
        return {"trial_end": plan.trial_end}
    # A trial that ends sooner than Stripe allows becomes a billing start, which is free until then, too (CHK-18).
    starts_at = (plan.trial_end or plan.billing_starts_at) if plan else None
    if starts_at and starts_at > now.timestamp():
        return {"billing_cycle_anchor": starts_at, "proration_behavior": "none"}
    return {}


def terms(plan: Plan, catalog: Catalog) -> dict[str, Any]:
    """What the catalog adds to the buyer's words: a session with other terms is not given out again (LAN-30)."""
    return {"plan": plan.model_dump(include=TERMS, exclude_defaults=True), "session": catalog.session}
