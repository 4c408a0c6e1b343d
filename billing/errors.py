"""Every error that onelane raises on purpose, each with the sentence that a person reads.

A `TransientError` is tried again, a `PermanentError` is not. `app/errors/` gives each `code` its HTTP status.
"""

from collections.abc import Mapping
from typing import Any


class OnelaneError(Exception):
    """An error with a stable `code`, and a sentence that says what happened and what to do next.

    A kind that always says the same has it as `always`.
    """

    code = "internal"
    always = ""

    def __init__(self, sentence: str = "") -> None:
        self.sentence = sentence or self.always
        super().__init__(self.sentence)

    @property
    def for_operator(self) -> str:
        """The sentence for logs and commands."""
        return self.sentence


class TransientError(OnelaneError):
    """The same work may succeed later, without a change."""

    code = "try_again"


class PermanentError(OnelaneError):
    """The same work fails again."""


class ConfigurationError(PermanentError):
    """A setting makes no sense. The sentence names it and says what to set."""

    code = "configuration"


class Busy(TransientError):
    """All places for such requests are taken just now."""


class LedgerUnavailable(TransientError):
    """The database did not answer, or could not commit. `reason` is a sentence that only operators read."""

    code = "ledger_unavailable"

    def __init__(self, sentence: str, *, reason: str | None = None) -> None:
        super().__init__(sentence)
        self.reason = reason

    @property
    def for_operator(self) -> str:
        """Why, where that is known."""
        return self.reason or self.sentence


class LedgerMisconfigured(LedgerUnavailable):
    """It will not answer before somebody changes a setting, or something at the database.

    Transient all the same: what runs goes on as soon as that is done, and no event is given up for it.
    """

    code = "misconfigured"


class LedgerConflict(LedgerUnavailable):
    """The database undid the transaction because of a conflict; nothing of it was written."""


OPERATORS = "for_operator"  # the member of a row's error that no buyer reads


def for_buyer(error: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """A row's error as its buyer may see it."""
    return {name: value for name, value in error.items() if name != OPERATORS} if error else None


# --- Stripe's answers, translated in stripe_gateway/errors.py


class StripeUnclear(TransientError):
    """No answer, or one that does not say whether the request ran: timeout, reset, 409, 429, 502, 503, 504, no JSON."""

    code = "stripe_unavailable"

    def __init__(self, sentence: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


class StripeBusy(StripeUnclear):
    """Stripe answered 429, or this process' budget of requests was not free in time.

    That is no failure of the work: it is tried again and not counted.
    """


class StripeUnserved(StripeUnclear):
    """What answers as Stripe does not serve this address (404, no code): a stand-in, or a wrong STRIPE_API_BASE."""


class StripeSavedFailure(TransientError):
    """The key can create nothing any more, or may have created it: 500, `expires_at` too soon.

    `replayed` is true when Stripe marked the answer `Idempotent-Replayed`: the key's result is final.
    """

    code = "stripe_unavailable"

    def __init__(self, sentence: str, *, replayed: bool) -> None:
        super().__init__(sentence)
        self.replayed = replayed


class StripeKeyTaken(StripeSavedFailure):
    """The key is another request's (`idempotency_error`), as sent by another version of this program or of the API.

    With these parameters it never runs; with the others it may have. So what Stripe has decides.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence, replayed=True)


class OperatorsError(PermanentError):
    """The operator has to mend something. The `sentence` is theirs alone; a buyer reads `for_buyer` (CHK-30)."""

    for_buyer = "The operator has to mend something first. It is on record."

    @property
    def record(self) -> dict[str, Any]:
        """The error of a row. `OPERATORS` is left out wherever a buyer reads it."""
        return {"code": self.code, "detail": self.for_buyer, OPERATORS: self.sentence}


class StripeRefused(OperatorsError):
    """Stripe refused the request (4xx), for example for an unknown price, coupon or customer.

    The sentence has Stripe's own words and its request id.
    """

    code = "stripe_refused"
    for_buyer = "Stripe refused what was asked of it. The operator can see why."

    def __init__(self, sentence: str, *, status: int, stripe_code: str | None, param: str | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.stripe_code = stripe_code
        self.param = param

    @property
    def is_missing(self) -> bool:
        """Whether Stripe has no such object: one that was asked for, or one that a list is about."""
        return isinstance(self, StripeMissing) or self.stripe_code == "resource_missing"


class NotTakenBack(StripeRefused):
    """Stripe refuses what a subscription has already, such as an archived price, in the phase that runs (SUB-82)."""

    code = "not_switchable"
    for_buyer = "This subscription cannot change its plan: it has something that Stripe does not sell any more."


class StripeMissing(StripeRefused):
    """Stripe has no object of that id (404)."""


class StripeMisconfigured(OperatorsError):
    """Stripe does not accept our API key, or the key lacks a permission (401, 403)."""

    code = "misconfigured"
    for_buyer = "The service is not set up correctly. The operator can see why."


# --- Errors that a buyer may see


class InvalidRequest(PermanentError):
    """The body, query or a header is wrong. `errors` is a list of {pointer, detail}."""

    code = "invalid_request"

    def __init__(self, sentence: str, *errors: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in errors]


class InvalidSignature(InvalidRequest):
    """A delivery that none of our secrets signed. Nothing of it is stored."""

    code = "invalid_signature"


class InvalidEvent(InvalidRequest):
    """A signed body that is no event: not JSON, or without a required field."""

    code = "invalid_event"


class PayloadTooLarge(PermanentError):
    """The body is longer than this route accepts."""

    code = "payload_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The body is longer than {max_bytes} bytes. WEBHOOK_MAX_BYTES sets that limit.")


class NotFound(PermanentError):
    """There is no such object, or it is another user's: the answer is the same."""

    code = "not_found"

    def __init__(self, what: str = "resource") -> None:
        super().__init__(f"There is no such {what} for this user.")
        self._what = what

    @property
    def for_operator(self) -> str:
        """Operators look at everybody's."""
        return f"There is no such {self._what}."


class Unauthorized(PermanentError):
    """No valid bearer token. Which check failed is logged, and not in the answer."""

    code = "unauthorized"


class IdempotencyMismatch(PermanentError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_key_reused"
    always = "This Idempotency-Key was used with a different body. Send a new key for a new request."


class NoSubscription(PermanentError):
    """The user has no live subscription to this product."""

    code = "no_subscription"
    always = "This user has no subscription to this product."


class UserErased(PermanentError):
    """The user was erased: requests that would record something are refused."""

    code = "user_erased"
    always = "This user was erased. A person who comes back needs a new user id."


class CustomerTaken(PermanentError):
    """The user already has a Stripe customer, or the Stripe customer already belongs to a user."""

    code = "customer_taken"


class StaleWrite(TransientError):
    """Another worker changed the row between our read and our compare-and-set. Read again."""

    code = "stale_write"
