"""Answers as pydantic models: the document is made from them, and tests hold every answer against the document.

A field that has a default here is left out of some answers. The document shows no default.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, Field

from billing.subscriptions.access import AccessReason

Time = Annotated[str, Field(description="ISO 8601 in UTC", examples=["2026-03-01T12:00:00Z"])]


class Answer(BaseModel):
    """An answer: fields may be added to it later, clients ignore what they do not know."""


class CurrencyExtra(Answer):
    """What `currency_mismatch` says besides."""

    customer_currency: str = Field("", description="With `currency_mismatch`: what Stripe bills the customer in")
    plan_currency: str = Field("", description="With `currency_mismatch`: what the plan is sold in")


class CheckoutError(CurrencyExtra):
    """Why a checkout was refused or failed."""

    code: str = Field(examples=["already_subscribed"])
    detail: str
    subscription_status: str | None = Field(
        "",
        description="Of the subscription that blocks it, by Stripe: `not_started` where a schedule begins it later,"
        " null where Stripe has none yet",
    )


class Checkout(Answer):
    """A buyer's request for a payment page, and what became of it."""

    id: str = Field(pattern="^chk_[a-z0-9]+$", examples=["chk_5f1d7a84db5e4fd09a3b4f8be0a4a3c2"])
    status: Literal["pending", "open", "completed", "expired", "superseded", "refused", "failed"]
    plan: str
    url: str | None = Field(description="The payment page, while `status` is `open`. A secret: it alone allows paying")
    session_id: str | None
    expires_at: Time | None
    reused: bool = Field(description="Whether an earlier checkout of the same user already opened this session")
    client_reference_id: str | None = Field(description="As it was sent")
    metadata: dict[str, str] = Field(description="The client's own, as it was sent")
    error: CheckoutError | None


class Access(Answer):
    """Whether the user may use the product, and why."""

    granted: bool
    reason: AccessReason
    until: Time | None


class PauseCollection(Answer):
    """What becomes of invoices while collecting is paused, and until when; null: until somebody resumes it."""

    behavior: str
    resumes_at: Time | None


class Subscription(Answer):
    """The user's subscription as Stripe last said."""

    id: str = Field(examples=["sub_1QxWp2Lkdf"])
    plan: str | None = Field(description="The plan by its price; null for a price that is not sold")
    status: str = Field(description="By Stripe, such as `active` or `past_due`; others may come")
    quantity: int | None = Field(description="Seats; null where the plan is billed by use")
    cancel_at_period_end: bool
    current_period_start: Time | None
    current_period_end: Time | None
    cancel_at: Time | None = Field(description="When it ends as planned now")
    canceled_at: Time | None = Field(description="When somebody canceled it")
    ended_at: Time | None
    trial_end: Time | None
    past_due_since: Time | None = Field(description="Since when an invoice for the plan is open")
    commitment_ends_at: Time | None = Field(description="Until when the buyer is bound, on a plan with a commitment")
    disputed: bool = Field(description="Whether the payment for the current period is disputed")
    refunded: bool = Field(description="Whether the payment for the current period was paid back, wholly")
    payment: Literal["first_pending", "first_failed", "overdue", "paid"] | None = Field(
        description="What the invoices of the current period say, where `status` does not"
    )
    pause_collection: PauseCollection | None = Field(
        description="Set while a person has paused collecting its invoices"
    )
    scheduled_plan: str | None = Field(description="The plan that a planned switch brings")
    created_at: Time
    client_reference_id: str | None = Field(description="As it was sent with the checkout that made it; else null")
    metadata: dict[str, str] = Field(description="The client's own, as it was sent with that checkout; else empty")


class ProductTrial(Answer):
    """Access without a subscription and a card, once for each user, where the catalog gives it."""

    started_at: Time
    ends_at: Time


class SubscriptionAnswer(Answer):
    """Access, decided; the subscription it was decided from; and the user's trial, over or not."""

    access: Access
    subscription: Subscription | None
    product_trial: ProductTrial | None


class PlannedElsewhere(Answer):
    """What a refusal says about an end or a change that is planned."""

    managed_by: Literal["fixed_end", "schedule"] = Field(
        "schedule", description="With `managed_elsewhere`: what somebody else planned"
    )
    schedule_id: str = Field("", description="Stripe's schedule that plans it")
    changes_at: Time | None = Field("", description="When that schedule changes the subscription next")
    ends_at: Time | None = Field("", description="When the subscription ends as planned")
    plan: str = Field("", description="With `already_on_plan`: the plan")


class StillBilling(PlannedElsewhere, CurrencyExtra):
    """A subscription that a cancellation could not end, and why."""

    id: str
    code: str
    detail: str


class ChangeRefused(PlannedElsewhere, CurrencyExtra):
    """What a refused change says besides its code."""

    still_billing: list[StillBilling] = Field(
        [], description="Of several subscriptions: those that go on after a cancellation"
    )


class OperationError(ChangeRefused):
    """Why an operation was refused or failed."""

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


class ProblemDetails(ChangeRefused):
    """An error (RFC 9457). `code` is stable; programs decide by it."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    retryable: bool = Field(description="Whether the same request may succeed later, nothing else changed")
    errors: list[FieldProblem] = Field([], description="With `invalid_request`: what is wrong, field by field")
    checkout_id: str = Field("", description="The checkout that this is about")
    operation_id: str = Field("", description="The operation that this is about")
    subscription_status: str | None = Field(
        "",
        description="By Stripe, of the subscription that blocks a checkout: `not_started` where a schedule begins it"
        " later, null where Stripe has none yet",
    )
