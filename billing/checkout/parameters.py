"""The parameters of POST /v1/checkout/sessions: pure, and complete before the attempt is stored (LAN-6).

The price, the coupon and the billing start are the catalog's; the addresses, the reference and the metadata are
the buyer's request. Tag and nonce go on the session and on the subscription it makes (CHK-3).
"""

from datetime import datetime
from typing import Any

from billing.catalog import Catalog, Plan
from billing.checkout.rules import Checkout
from billing.product_tag import tag

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
    now: datetime,
) -> dict[str, Any]:
    """What is sent, and sent again unchanged by a worker that takes the attempt over."""
    request = checkout.request
    plan = catalog.plans.get(checkout.plan)
    metadata = {**request["metadata"], **tag(catalog.product, nonce=nonce)}
    parameters: dict[str, Any] = {
        **catalog.session,
        "mode": "subscription",
        "customer": customer_id,
        "line_items": [{"price": checkout.price_id, "quantity": request["quantity"]}],
        "success_url": request["success_url"],
        "cancel_url": request["cancel_url"],
        "expires_at": int(expires_at.timestamp()),
        "metadata": metadata,
        "subscription_data": {"metadata": metadata, **_billing_start(plan, now)},
    }
    # The user's id, unless the application gives a reference of its own: a person searches for it in the Dashboard.
    parameters["client_reference_id"] = request["client_reference_id"] or user_id
    # Stripe takes discounts or allow_promotion_codes, never both, even as false.
    if plan and plan.coupon and (first_time or plan.coupon_for == "everyone"):
        parameters["discounts"] = [{"coupon": plan.coupon}]
    elif plan and plan.allow_promotion_codes:
        parameters["allow_promotion_codes"] = True
    return parameters


def _billing_start(plan: Plan | None, now: datetime) -> dict[str, Any]:
    """A billing start in the future; where it has passed, Stripe bills at once."""
    if plan and plan.trial_end and plan.trial_end > now.timestamp() + LEAST_TRIAL_SECONDS:
        return {"trial_end": plan.trial_end}
    # A trial that ends sooner than Stripe allows becomes a billing start, which is free until then, too (CHK-18).
    starts_at = (plan.trial_end or plan.billing_starts_at) if plan else None
    if starts_at and starts_at > now.timestamp():
        return {"billing_cycle_anchor": starts_at, "proration_behavior": "none"}
    return {}
