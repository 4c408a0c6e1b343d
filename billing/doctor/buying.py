"""Tries what can be tried without a sale: a payment page for each plan, as a worker makes it, expired at once.

Only Stripe knows whether it takes the catalog's price, quantity, coupon, trial and [session] together. A customer is
made for it, without an address as a new buyer's is, and deleted at the end.
"""

import uuid
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any

from billing.catalog import Catalog, Plan
from billing.checkout.rules import LEAST_EXPIRY, Checkout
from billing.checkout.session_parameters import session_parameters
from billing.doctor.finding import Finding, fine, wrong
from billing.errors import StripeRefused
from billing.models import CheckoutStatus
from billing.process.settings import Settings
from billing.rules.words import in_number
from billing.stripe_gateway import GatewayClient

USER = "onelane-doctor"
# Stripe's least and some for the clocks: a page that a killed doctor left ends soon, and nobody has its address.
LIFETIME = LEAST_EXPIRY + timedelta(minutes=5)
# When billing begins, as Stripe and the catalog call it.
_STARTS = {"trial_period_days": "trial_days", "trial_end": "trial_end", "billing_cycle_anchor": "billing_starts_at"}
_TAX = (
    " Automatic tax needs the address where you sell from: set it at https://dashboard.stripe.com/settings/tax (in test"
    " mode for a test key)."
)


def examine_buying(catalog: Catalog, stripe: GatewayClient, *, settings: Settings) -> Iterator[Finding]:
    """What Stripe refuses to open a page for. Raises what the gateway raises."""
    about = {"description": "onelane doctor: may be deleted", "metadata": {"onelane_user": USER}}
    customer_id = stripe.create_customer(about, idempotency_key=str(uuid.uuid4()))
    opened = 0
    try:
        for plan in catalog.plans.values():
            parameters = _parameters(plan, customer_id, catalog, settings, stripe)
            refused = _refusal(parameters, stripe)
            if refused is None:
                opened += 1
            else:
                yield wrong("buying", f"{plan.key}: {refused.sentence} {_fix(parameters, stripe, catalog)}")
    finally:
        stripe.delete_customer(customer_id)
    if opened:
        plans = in_number(len(catalog.plans), "plan")
        yield fine("buying", f"Stripe opens a payment page for {opened} of {plans} (each expired again).")


def _parameters(
    plan: Plan, customer_id: str, catalog: Catalog, settings: Settings, stripe: GatewayClient
) -> dict[str, Any]:
    """As a buyer's first checkout has them, for the least that is sold."""
    now = stripe.now()
    origin = next(iter(settings.redirect_origins), "https://example.com")
    request: dict[str, Any] = {
        "success_url": origin,
        "cancel_url": origin,
        "quantity": None if plan.metered else plan.min_quantity,
        "metadata": {},
        "client_reference_id": None,
    }
    checkout = Checkout(
        id=USER,
        lane_id=0,
        number=0,
        plan=plan.key,
        price_id=plan.price,
        request=request,
        fingerprint="",
        status=CheckoutStatus.PENDING,
        arrived_at=now,
    )
    return session_parameters(
        checkout,
        catalog=catalog,
        user_id=USER,
        customer_id=customer_id,
        nonce=str(uuid.uuid4()),
        expires_at=now + LIFETIME,
        first_time=True,
        first_trial=True,
        now=now,
    )


def _refusal(parameters: Mapping[str, Any], stripe: GatewayClient) -> StripeRefused | None:
    """Open the page and expire it; why Stripe did not open it."""
    try:
        session_id = stripe.create_session(parameters, idempotency_key=str(uuid.uuid4()))
    except StripeRefused as refused:
        return refused
    stripe.expire_session(session_id)
    return None


def _fix(parameters: dict[str, Any], stripe: GatewayClient, catalog: Catalog) -> str:
    """Without which part Stripe opens the page. That is found by trying, not by the words of the refusal."""
    for part, rest in _with_less(parameters, catalog):
        if _refusal(rest, stripe) is None:
            return f"Without {part} it is taken: correct that in the catalog.{_TAX if 'automatic_tax' in part else ''}"
    return "Correct the plan in the catalog, or its price at Stripe."


def _with_less(parameters: dict[str, Any], catalog: Catalog) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same page without one part of it: its name and the parameters."""
    named = {**{name: f"{name} in [session]" for name in catalog.session}, "discounts": "the coupon"}
    for name, part in named.items():
        if name in parameters:
            yield part, {key: value for key, value in parameters.items() if key != name}
    data = parameters["subscription_data"]
    for name, part in _STARTS.items():
        if name in data:
            yield part, {**parameters, "subscription_data": {"metadata": data["metadata"]}}
