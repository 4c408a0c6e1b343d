"""Bodies and answers as pydantic models: the first are checked with them, both are documented from them.

Shapes only. What is sold, which addresses are allowed and what metadata may say is decided in `billing`.
"""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from app.auth import MAX_USER_ID, is_user_id
from billing.checkout.requests import LONGEST_KEY, LONGEST_VALUE
from billing.ids import CUSTOMER
from billing.rules.product_tag import RESERVED_NAMES


def _printable(value: str) -> str:
    if not is_user_id(value):
        raise ValueError(f"must be 1 to {MAX_USER_ID} printable characters")
    return value


# For the document only, and as far as every client's regular expressions go: the code refuses in words of its own.
PRINTABLE = r"^[^\u0000-\u001f\u007f-\u00a0\ufffd]+$"
_NO_NUL = r"^[^\u0000]*$"
_METADATA_KEY = rf"^(?!{RESERVED_NAMES})[^\[\]\u0000]{{1,{LONGEST_KEY}}}$"

UserId = Annotated[
    str,
    AfterValidator(_printable),
    Field(min_length=1, max_length=MAX_USER_ID, json_schema_extra={"pattern": PRINTABLE}),
]
Reference = Annotated[str, Field(min_length=1, max_length=200, json_schema_extra={"pattern": _NO_NUL})]
Time = Annotated[str, Field(description="ISO 8601 in UTC", examples=["2026-03-01T12:00:00Z"])]


class Strict(BaseModel):
    """A body: nothing unknown, nothing converted."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """An answer: fields may be added to it later, clients ignore what they do not know."""


# --- bodies


class NoBody(Strict):
    """Nothing: the buyer's token says whose subscription it is."""


class ServerBody(Strict):
    """The same from the application's own server, which names the user."""

    user_id: UserId = Field(description="The user", examples=["user_1"])


class CheckoutBody(Strict):
    """What a buyer asks for. The plan decides the price."""

    plan: str = Field(min_length=1, max_length=63, description="A plan's key in the catalog", examples=["standard"])
    success_url: str = Field(
        min_length=1,
        max_length=2000,
        description="Where the buyer goes after paying. Its origin must be one of REDIRECT_ORIGINS",
        examples=["https://app.example.com/billing?paid=1"],
    )
    cancel_url: str = Field(
        min_length=1,
        max_length=2000,
        description="Where the buyer goes after leaving the payment page",
        examples=["https://app.example.com/billing"],
    )
    quantity: int = Field(1, ge=1, le=999_999, description="How many; the plan says how many there may be")
    client_reference_id: Reference | None = Field(None, description="Your own reference")
    metadata: dict[str, str] = Field(
        default_factory=dict,
        max_length=20,
        description="Your own notes, copied to the session and the subscription. `type`, `nonce` and `onelane_*` are"
        " refused",
        json_schema_extra={
            "propertyNames": {"pattern": _METADATA_KEY},
            "additionalProperties": {
                "type": "string",
                "minLength": 1,
                "maxLength": LONGEST_VALUE,
                "pattern": _NO_NUL,
            },
        },
    )


class ServerCheckoutBody(CheckoutBody, ServerBody):
    """The same from the application's own server, which names the user."""


class SwitchBody(Strict):
    """The plan that is to come at the end of the period."""

    plan: str = Field(min_length=1, max_length=63, description="A plan's key in the catalog", examples=["commit"])


class ServerSwitchBody(SwitchBody, ServerBody):
    """The same from the application's own server, which names the user."""


class PortalBody(Strict):
    """Where the portal leads back to."""

    return_url: str = Field(
        min_length=1,
        max_length=2000,
        description="Where the user comes back to. Its origin must be one of REDIRECT_ORIGINS",
        examples=["https://app.example.com/billing"],
    )


class ServerPortalBody(PortalBody, ServerBody):
    """The same from the application's own server, which names the user."""


class CustomerBody(Strict):
    """An existing Stripe customer."""

    customer_id: str = Field(
        min_length=1,
        max_length=255,
        examples=["cus_9s6XKzkNRiz8i3"],
        json_schema_extra={"pattern": f"^{CUSTOMER.pattern}$"},
    )


# --- answers


class CheckoutError(Answer):
    """Why a checkout was refused or failed."""

    model_config = ConfigDict(extra="allow")

    code: str = Field(examples=["already_subscribed"])
    detail: str


class Checkout(Answer):
    """A buyer's request for a payment page, and what became of it."""

    id: str = Field(pattern="^chk_[a-z0-9]+$", examples=["chk_5f1d7a84db5e4fd09a3b4f8be0a4a3c2"])
    status: Literal["pending", "open", "completed", "expired", "superseded", "refused", "failed"]
    plan: str
    url: str | None = Field(description="The payment page, while `status` is `open`. A secret: it alone allows paying")
    session_id: str | None
    expires_at: Time | None
    reused: bool = Field(description="Whether an earlier checkout of the same user already opened this session")
    error: CheckoutError | None


class Access(Answer):
    """Whether the user may use the product, and why."""

    granted: bool
    reason: str
    until: Time | None


class Subscription(Answer):
    """The user's subscription as Stripe last said."""

    model_config = ConfigDict(extra="allow")

    plan: str | None
    status: str
    cancel_at_period_end: bool
    current_period_end: Time | None
    commitment_ends_at: Time | None = Field(description="Until when the buyer is bound, on a plan with a commitment")
    disputed: bool = Field(description="Whether the payment for the current period is disputed")
    refunded: bool = Field(description="Whether the payment for the current period was paid back, wholly")
    scheduled_plan: str | None


class ProductTrial(Answer):
    """Access without a subscription and a card, once for each user, where the catalog gives it."""

    started_at: Time
    ends_at: Time


class SubscriptionAnswer(Answer):
    """Access, decided; the subscription it was decided from; and the user's trial, over or not."""

    access: Access
    subscription: Subscription | None
    product_trial: ProductTrial | None


class OperationError(Answer):
    """Why an operation was refused or failed."""

    model_config = ConfigDict(extra="allow")

    code: str = Field(examples=["already_canceling"])
    detail: str


class Operation(Answer):
    """A change of a subscription that a user asked for, or a visit to the portal, and what became of it."""

    id: str = Field(pattern="^op_[a-z0-9]+$", examples=["op_5f1d7a84db5e4fd09a3b4f8be0a4a3c2"])
    kind: Literal["cancel", "reactivate", "switch", "undo_switch", "portal"]
    status: Literal["pending", "succeeded", "refused", "failed"]
    plan: str | None = Field(description="The plan of a switch")
    url: str | None = Field(
        description="The portal's address, for five minutes. A secret: the address alone allows changes"
    )
    error: OperationError | None
    created_at: Time
    finished_at: Time | None
    access: Access | None = Field(description="Access as it is now, once the operation has succeeded")
    subscription: Subscription | None = Field(description="The subscription as it is now, once it has succeeded")


class PublicPlan(Answer):
    """What a buyer may know of a plan. Amounts in the currency's smallest unit."""

    plan: str = Field(examples=["standard"])
    name: str
    description: str
    interval: Literal["day", "week", "month", "year"]
    interval_count: int
    amount: int | None
    currency: str | None
    min_quantity: int
    max_quantity: int
    coupon_text: str | None
    allow_promotion_codes: bool
    trial_end: Time | None
    billing_starts_at: Time | None


class Plans(Answer):
    """The catalog's public part."""

    product: str
    name: str
    plans: list[PublicPlan]


class Customer(Answer):
    """A user and the Stripe customer that is theirs."""

    user_id: str
    customer_id: str


class Delivery(Answer):
    """What became of a delivered event. Either way it is in the ledger."""

    status: Literal["recorded", "duplicate"]


class Alive(Answer):
    """The process answers."""

    status: Literal["alive"]


class Readiness(Answer):
    """Each part that the web depends on: `ok`, or what is wrong with it."""

    status: Literal["ready", "not ready"]
    checks: dict[str, str]


class FieldProblem(Answer):
    """One thing that is wrong with the request."""

    pointer: str = Field(description="JSON pointer (RFC 6901) into the body", examples=["/plan"])
    detail: str


class ProblemDetails(Answer):
    """An error (RFC 9457). `code` is stable; programs decide by it."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later, nothing else changed")
    errors: list[FieldProblem] | None = None
    subscription_status: str | None = Field(
        None, description="Stripe's status of the subscription that blocks a checkout"
    )
