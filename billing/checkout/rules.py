"""The rules of a lane: pure functions over frozen rows decide what is stale, equal or orphaned (specs/lanes.md).

And what a session is created with, complete before the attempt is stored (LAN-6). The price, the coupon and the billing
start are the catalog's. The addresses, the reference and the metadata are the buyer's. Tag and nonce go on the session
and on the subscription it makes (CHK-3).
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.catalog import Catalog, Plan
from billing.models import AttemptOutcome, CheckoutStatus, LaneState
from billing.rules.backoff import Backoff
from billing.rules.product_tag import nonce_of, tag

Json = Mapping[str, Any]

# Older sessions cannot be open: Stripe ends them after 24 h at the latest. One hour for clocks and rounding.
LOOK_BACK = timedelta(hours=25)
# Absolute, and under Stripe's 24 h by an hour. So Stripe refuses what a frozen worker sends late ("expires_at too
# soon") before its idempotency key can have been pruned (LAN-6).
SESSION_LIFETIME = timedelta(hours=23)
# A buyer needs a few minutes to pay: a session with less to live is not given out again.
LEAST_LIFE = timedelta(minutes=5)
BACKOFF = Backoff(timedelta(seconds=0.5), timedelta(seconds=60))  # LAN-16
# The fields of a plan that a session is made from.
TERMS = {"metered", "coupon", "coupon_for", "allow_promotion_codes", "trial_days", "missing_payment_method",
         "trial_end", "billing_starts_at"}  # fmt: skip
# Stripe takes no expires_at sooner than 30 min from now; 5 min for clocks: past that the key is dead.
LEAST_EXPIRY, CLOCK_MARGIN = timedelta(minutes=30), timedelta(minutes=5)
# Stripe wants a trial's end at least 48 h ahead when the session is made; 1 h for clocks and an attempt sent late.
LEAST_TRIAL_SECONDS = 49 * 3600


@dataclass(frozen=True, slots=True)
class Lane:
    """One customer and one product. Every change is a compare-and-set on (version, nonce)."""

    id: int
    user_id: str
    product: str
    state: LaneState
    version: int
    nonce: str | None
    session_id: str | None
    failures: int
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One creation of a session, written before it is sent."""

    nonce: str
    lane_id: int
    checkout_id: str
    idempotency_key: str
    parameters: Json
    fingerprint: str
    created_at: datetime
    expires_at: datetime
    session_id: str | None = None
    outcome: AttemptOutcome | None = None
    doubted_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Checkout:
    """A buyer's request."""

    id: str
    lane_id: int
    number: int
    plan: str
    price_id: str
    request: Json
    fingerprint: str
    status: CheckoutStatus
    arrived_at: datetime


def fingerprint(request: Json, price_id: str | None = None, *, terms: Json | None = None) -> str:
    """What makes two requests equal: the whole body, the price and the terms it resolves to, never a time."""
    compared = {"request": request, "price": price_id, **({"terms": terms} if terms else {})}
    text = json.dumps(compared, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def terms(plan: Plan, catalog: Catalog) -> Json:
    """What the catalog adds to the buyer's words: a session with other terms is not given out again (LAN-30)."""
    return {"plan": plan.model_dump(include=TERMS, exclude_defaults=True), "session": catalog.session}


def is_stale(attempt: Attempt, checkout: Checkout, *, reuse_seconds: int) -> bool:
    """Whether this checkout needs a session of its own (LAN-4).

    The attempt's own times are compared with the checkout's arrival, never with now. Compared with now, two checkouts
    expire each other's sessions without end. A session made for this very checkout is never stale by time. The web's
    clock gives the arrival and a worker's the creation: 15 minutes behind, it would make each new session stale at once
    (LAN-21).
    """
    if attempt.checkout_id == checkout.id:
        return False
    return (
        attempt.fingerprint != checkout.fingerprint
        or attempt.created_at < checkout.arrived_at - timedelta(seconds=reuse_seconds)
        or attempt.expires_at < checkout.arrived_at + LEAST_LIFE
    )


def orphaned_sessions(sessions: Iterable[Json], *, owned: tuple[str | None, str | None]) -> list[Json]:
    """The open ones among our product's sessions that no live attempt owns, by its nonce or session id (LAN-5)."""
    live_nonce, live_session_id = owned

    def is_owned(session: Json) -> bool:
        return live_nonce is not None and (nonce_of(session) == live_nonce or session["id"] == live_session_id)

    return [session for session in sessions if session["status"] == "open" and not is_owned(session)]


def key_is_dead(attempt: Attempt, *, stripe_now: datetime) -> bool:
    """Whether Stripe would refuse the attempt by its `expires_at`, so that it can make no session any more."""
    return stripe_now > attempt.expires_at - LEAST_EXPIRY + CLOCK_MARGIN


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
