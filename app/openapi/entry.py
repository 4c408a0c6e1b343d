"""What an entry of the table says, and the problems that many of them share (their codes are in `app/errors.py`)."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel


@dataclass(frozen=True)
class Operation:
    """One method on one address: who may call it, what goes in, what comes out."""

    method: str
    path: str
    name: str
    summary: str
    text: str
    tag: str
    who: tuple[str, ...] = ()  # names of security schemes; none: anyone
    bodies: tuple[type[BaseModel], ...] = ()
    answers: Mapping[int, tuple[str, type[BaseModel] | str]] = field(default_factory=dict)
    headers: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    parameters: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    body_required: bool = True


BODY = ("bad_request", "invalid_json", "body_timeout", "payload_too_large", "unsupported_media_type", "invalid_request")
AUTH = ("unauthorized", "identity_unavailable")
EVERY = ("internal", "ledger_unavailable", "try_again")
BUYER, SERVER, STRIPE = "buyer", "server", "stripe"

# What is asked of a lane ends in these ways, whatever it is.
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
# And so does reading what became of it.
ANSWER = (*AUTH, *EVERY, "invalid_id", "not_found", "invalid_request", "rate_limited")
