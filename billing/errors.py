"""Every error that onelane raises on purpose, each with the sentence a person reads.

Two families decide what happens next: a `TransientError` is worth trying again, a
`PermanentError` is not. HTTP statuses are not here: `app/errors.py` gives each `code` its status.
"""

from collections.abc import Mapping
from typing import Any


class OnelaneError(Exception):
    """What happened, whose fault it is and what to do next, in one sentence."""

    code = "internal"

    def __init__(self, sentence: str, **details: Any) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.details: Mapping[str, Any] = details


class TransientError(OnelaneError):
    """Trying again later may well succeed; nothing has to be mended first."""

    code = "try_again"


class PermanentError(OnelaneError):
    """Trying again changes nothing."""


class ConfigurationError(PermanentError):
    """A setting makes no sense. The sentence names it and says what to set."""

    code = "configuration"


class LedgerUnavailable(TransientError):
    """The database did not answer, or could not commit."""

    code = "ledger_unavailable"


class LedgerConflict(LedgerUnavailable):
    """The database undid a transaction for another one's sake; nothing of it was written."""


# --- Stripe's answers, translated once, in stripe_gateway/translating.py


class StripeUnclear(TransientError):
    """No answer, or one that does not say whether the request ran: timeout, reset, 409, 429, 502, 503, 504, no JSON."""

    code = "stripe_unavailable"

    def __init__(self, sentence: str, *, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.retry_after = retry_after


class StripeBusy(StripeUnclear):
    """Not now, whoever asks: Stripe answered 429, or this process' budget of requests was not free in time.

    That is no failure of the work: it is tried again and not counted.
    """


class StripeSavedFailure(TransientError):
    """The key can give no session any more, or may have given one: 500, `expires_at` too soon, `idempotency_error`.

    `replayed` is true when Stripe marked the answer `Idempotent-Replayed`: this key's result is settled for good.
    """

    code = "stripe_unavailable"

    def __init__(self, sentence: str, *, replayed: bool) -> None:
        super().__init__(sentence)
        self.replayed = replayed


class StripeRefused(PermanentError):
    """Stripe understood and said no (a 4xx): no such price, coupon or customer, say."""

    code = "stripe_refused"

    def __init__(self, sentence: str, *, status: int, stripe_code: str | None, param: str | None) -> None:
        super().__init__(sentence)
        self.status = status
        self.stripe_code = stripe_code
        self.param = param


class StripeMissing(StripeRefused):
    """The thing named by an id does not exist at Stripe (404)."""


class StripeMisconfigured(PermanentError):
    """Stripe does not accept our API key, or the key may not do this (401, 403)."""

    code = "misconfigured"


# --- What a buyer can be told


class InvalidRequest(PermanentError):
    """The body, query or a header is wrong. `errors` is a list of {pointer, detail}."""

    code = "invalid_request"

    def __init__(self, sentence: str, *errors: tuple[str, str]) -> None:
        super().__init__(sentence)
        self.errors = [{"pointer": pointer, "detail": detail} for pointer, detail in errors]


class InvalidSignature(InvalidRequest):
    """A delivery that none of our signing secrets vouches for. Nothing of it is stored."""

    code = "invalid_signature"


class InvalidEvent(InvalidRequest):
    """A signed body that is no event: not JSON, or without what every event has."""

    code = "invalid_event"


class PayloadTooLarge(PermanentError):
    """The body is longer than what this route takes."""

    code = "payload_too_large"

    def __init__(self, max_bytes: int) -> None:
        super().__init__(f"The body is longer than {max_bytes} bytes. WEBHOOK_MAX_BYTES sets that limit.")


class NotFound(PermanentError):
    """No such thing, or it is another user's: both read the same."""

    code = "not_found"

    def __init__(self, what: str = "resource") -> None:
        super().__init__(f"There is no such {what} for this user.")


class Unauthorized(PermanentError):
    """No bearer token, or one that does not check out. Which of the checks failed is logged, not told."""

    code = "unauthorized"


class IdempotencyMismatch(PermanentError):
    """The same Idempotency-Key came with another body."""

    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used with a different body. Send a new key for a new request.")


class NoSubscription(PermanentError):
    """There is nothing to change: the user has no live subscription to this product."""

    code = "no_subscription"

    def __init__(self) -> None:
        super().__init__("This user has no subscription to this product.")


class UserErased(PermanentError):
    """The user was erased: nothing of theirs is taken any more."""

    code = "user_erased"

    def __init__(self) -> None:
        super().__init__("This user was erased. A person who comes back needs a new user id.")


class CustomerTaken(PermanentError):
    """The user already has a Stripe customer, or the Stripe customer already belongs to a user."""

    code = "customer_taken"


class StaleWrite(TransientError):
    """Somebody else changed the row between our read and our compare-and-set. Read again."""

    code = "stale_write"


# --- What an operator can be told


class NotErasable(PermanentError):
    """Somebody who may still be billed is not erased. The sentence says what to do first."""

    code = "not_erasable"


class ReplayUnderWay(TransientError):
    """A replay of many events runs, and there is only ever one."""

    code = "replay_under_way"


class NobodyWorks(TransientError):
    """Events wait, and no worker takes them."""

    code = "nobody_works"
