"""The rules of a lane: pure functions over frozen rows decide what is stale, equal or orphaned (specs/lanes.md)."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from billing.models import AttemptOutcome, CheckoutStatus, LaneState
from billing.rules.backoff import Backoff
from billing.rules.product_tag import nonce_of

Json = Mapping[str, Any]

# Older sessions cannot be open: Stripe ends them after 24 h at the latest. One hour for clocks and rounding.
LOOK_BACK = timedelta(hours=25)
# Absolute, and under Stripe's 24 h by an hour. So Stripe refuses what a frozen worker sends late ("expires_at too
# soon") before its idempotency key can have been pruned (LAN-6).
SESSION_LIFETIME = timedelta(hours=23)
# A buyer needs a few minutes to pay: a session with less to live is not given out again.
LEAST_LIFE = timedelta(minutes=5)
BACKOFF = Backoff(timedelta(seconds=0.5), timedelta(seconds=60))  # LAN-16
# Stripe takes no expires_at sooner than 30 min from now; 5 min for clocks: past that the key is dead.
LEAST_EXPIRY, CLOCK_MARGIN = timedelta(minutes=30), timedelta(minutes=5)


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
