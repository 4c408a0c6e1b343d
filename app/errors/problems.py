"""The codes of problems, each with its HTTP status, and the errors that only the web has."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from billing.errors import PermanentError, TransientError


@dataclass(frozen=True, slots=True)
class Problem:
    """What is true of every problem with one code. `retry_after` in seconds makes it retryable by waiting."""

    status: int
    title: str
    retryable: bool = False
    retry_after: int | None = None


PROBLEMS: Mapping[str, Problem] = {
    "bad_request": Problem(400, "The request could not be read."),
    "invalid_json": Problem(400, "The body is not acceptable JSON."),
    "invalid_id": Problem(400, "An id in the address is not written like one."),
    "invalid_signature": Problem(400, "The signature does not check out."),
    "invalid_event": Problem(400, "The body is no Stripe event."),
    "unauthorized": Problem(401, "A valid bearer token is needed."),
    "forbidden": Problem(403, "This credential may not do that."),
    "not_found": Problem(404, "There is no such thing."),
    "method_not_allowed": Problem(405, "This address does not know that method."),
    "already_subscribed": Problem(409, "The user already has a live subscription."),
    "payment_in_progress": Problem(409, "An earlier payment has not been settled.", retryable=True),
    "no_subscription": Problem(409, "The user has no live subscription."),
    "already_on_plan": Problem(409, "The subscription is on that plan already."),
    "already_canceling": Problem(409, "The subscription ends at the end of its period already."),
    "currency_mismatch": Problem(409, "Stripe bills this customer in another currency."),
    "managed_elsewhere": Problem(409, "Somebody else planned an end or a change of the subscription."),
    "not_switchable": Problem(409, "The subscription has something that a change of plan would lose."),
    "superseded": Problem(409, "A newer checkout of the same user took over."),
    "customer_taken": Problem(409, "The user or the Stripe customer is already taken."),
    "user_erased": Problem(410, "The user was erased."),
    "body_timeout": Problem(408, "The body did not come in time.", retryable=True),
    "payload_too_large": Problem(413, "The body is too large."),
    "unsupported_media_type": Problem(415, "The body must be application/json."),
    "invalid_request": Problem(422, "The request does not make sense."),
    "idempotency_key_reused": Problem(422, "The Idempotency-Key was used with another body."),
    "rate_limited": Problem(429, "Too many requests.", retryable=True, retry_after=60),
    "internal": Problem(500, "Something went wrong on our side.", retryable=True),
    "stripe_refused": Problem(502, "Stripe refused what the catalog asks for."),
    "misconfigured": Problem(503, "The service is not set up correctly.", retryable=True, retry_after=60),
    "ledger_unavailable": Problem(503, "The ledger is not reachable.", retryable=True, retry_after=2),
    "identity_unavailable": Problem(503, "The identity provider is not reachable.", retryable=True, retry_after=5),
    "stripe_unavailable": Problem(503, "Stripe is not reachable.", retryable=True, retry_after=5),
    "try_again": Problem(503, "The service is busy.", retryable=True, retry_after=2),
}


class InvalidJson(PermanentError):
    """The body is no JSON, or JSON that nobody sends in earnest."""

    code = "invalid_json"


class UnreadableQuery(PermanentError):
    """The query is not written as addresses are."""

    code = "bad_request"


class InvalidId(PermanentError):
    """An id in the path that does not match its pattern: it is never looked up."""

    code = "invalid_id"


class Forbidden(PermanentError):
    """The caller is known, and may not do this."""

    code = "forbidden"


class BodyTooLarge(PermanentError):
    """The body is longer than this address reads."""

    code = "payload_too_large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is longer than {limit} bytes, the most that this address reads.")


class BodyTimeout(TransientError):
    """The body did not come whole within the time that it has."""

    code = "body_timeout"


class BodyCutOff(PermanentError):
    """The connection ended before the body did, or the body is not written as HTTP has it."""

    code = "bad_request"


class UnsupportedMediaType(PermanentError):
    """The body does not say that it is JSON."""

    code = "unsupported_media_type"
    always = "Send the body as application/json."


class RateLimited(TransientError):
    """The user, or the address, asked more often than the setting allows. `limit` is the rate as two HTTP fields."""

    code = "rate_limited"

    def __init__(self, retry_after: int, limit: Mapping[str, str]) -> None:
        super().__init__(f"Too many requests. Try again in {retry_after} s.")
        self.retry_after = retry_after
        self.limit = limit


class IdentityUnavailable(TransientError):
    """The keys that sign the buyers' tokens cannot be fetched, so that no token can be judged."""

    code = "identity_unavailable"


def matches(pattern: "re.Pattern[str]", value: str) -> str:
    """Give back an id from the path, or refuse it before anybody looks it up."""
    if not pattern.fullmatch(value):
        raise InvalidId("The id in the address is not written like one.")
    return value
