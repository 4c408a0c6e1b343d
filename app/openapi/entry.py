"""The type of an entry, and the problems that many entries share (their codes are in `app/errors.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel


@dataclass(frozen=True)
class Operation:
    """One method on one path: its callers, bodies, parameters, answers and problems."""

    method: str
    path: str
    name: str
    summary: str
    text: str
    tag: str
    who: tuple[str, ...] = ()  # names of security schemes; empty: anyone
    bodies: tuple[type[BaseModel], ...] = ()
    answers: Mapping[int, tuple[str, type[BaseModel] | str]] = field(default_factory=dict)
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    body_required: bool = True


BODY = ("bad_request", "invalid_json", "body_timeout", "payload_too_large", "unsupported_media_type", "invalid_request")
AUTH = ("unauthorized", "identity_unavailable")
EVERY = ("internal", "ledger_unavailable", "try_again")
# What anybody may ask for.
OPEN = ("internal", "bad_request", "rate_limited")
BUYER, SERVER, STRIPE = "buyer", "server", "stripe"

# Any request to a lane may end with these.
LANE = (
    *BODY,
    *AUTH,
    *EVERY,
    "payment_in_progress",
    "user_erased",
    "idempotency_key_reused",
    "rate_limited",
    "stripe_refused",
    "stripe_unavailable",
    "misconfigured",
)
# Reading a checkout or operation may end with these.
ANSWER = (*AUTH, *EVERY, "bad_request", "invalid_id", "not_found", "invalid_request", "rate_limited")
