"""The operations of the HTTP interface, one entry each: who may call, what goes in, what comes out.

Whoever adds a route adds its entry here; the OpenAPI document and the docs page are made from this table,
and a test holds it against the routes that exist (API-53).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel

from app import schemas


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


_BODY = ("bad_request", "invalid_json", "payload_too_large", "unsupported_media_type", "invalid_request")
_AUTH = ("unauthorized", "identity_unavailable")
_EVERY = ("internal", "ledger_unavailable", "try_again")
BUYER, SERVER, STRIPE = "buyer", "server", "stripe"

_CHANGE_PROBLEMS = (
    *_BODY,
    *_AUTH,
    *_EVERY,
    "no_subscription",
    "payment_in_progress",
    "user_erased",
    "idempotency_key_reused",
    "rate_limited",
    "stripe_refused",
    "stripe_unavailable",
    "misconfigured",
)


def _change(
    method: str,
    path: str,
    name: str,
    summary: str,
    text: str,
    *,
    bodies: tuple[type[BaseModel], ...] = (),
    parameters: tuple[str, ...] = (),
    problems: tuple[str, ...] = (),
) -> Operation:
    """A call that changes a subscription: all of them answer by the same rule."""
    waits = " Waits like a checkout; what takes longer is answered with 202 and read at `Location`."
    answered = ("IdempotentReplayed", "PreferenceApplied")
    return Operation(
        method,
        path,
        name,
        summary,
        text + waits,
        "Subscription",
        who=(BUYER, SERVER),
        bodies=bodies,
        body_required=bool(bodies) and schemas.NoBody not in bodies,
        parameters=(*parameters, "IdempotencyKey", "Prefer"),
        answers={200: ("Done", schemas.Operation), 202: ("Not done yet: ask at `Location`", schemas.Operation)},
        headers={
            200: answered,
            202: ("Location", "RetryAfter", *answered),
            409: answered,
            422: answered,
            502: answered,
            503: ("Location", *answered),
        },
        problems=(*_CHANGE_PROBLEMS, *problems),
    )


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "post",
        "/v1/checkouts",
        "createCheckout",
        "Ask for a checkout",
        "Records the request and waits for the payment page: `CHECKOUT_WAIT_SECONDS`, or what `Prefer: wait=N` says."
        " Calls of one user at the same time end with one page: equal ones share it, of different ones the newest"
        " wins. With a server key the body names the `user_id`.",
        "Checkouts",
        who=(BUYER, SERVER),
        bodies=(schemas.CheckoutBody, schemas.ServerCheckoutBody),
        parameters=("IdempotencyKey", "Prefer"),
        answers={
            200: ("Only for a repeated Idempotency-Key: that checkout is over by now", schemas.Checkout),
            201: ("The payment page is open: send the buyer to `url`", schemas.Checkout),
            202: ("Not ready yet: ask at `Location`", schemas.Checkout),
        },
        headers={
            200: ("IdempotentReplayed", "PreferenceApplied"),
            201: ("Location", "IdempotentReplayed", "PreferenceApplied"),
            202: ("Location", "RetryAfter", "IdempotentReplayed", "PreferenceApplied"),
            409: ("IdempotentReplayed", "PreferenceApplied"),
            502: ("IdempotentReplayed", "PreferenceApplied"),
            503: ("Location", "IdempotentReplayed", "PreferenceApplied"),
        },
        problems=(
            *_BODY,
            *_AUTH,
            *_EVERY,
            "already_subscribed",
            "payment_in_progress",
            "superseded",
            "user_erased",
            "idempotency_key_reused",
            "rate_limited",
            "stripe_refused",
            "stripe_unavailable",
            "misconfigured",
        ),
    ),
    Operation(
        "get",
        "/v1/checkouts/{id}",
        "readCheckout",
        "Read a checkout",
        "The checkout as it is now. `Prefer: wait=N` holds the answer back until it is no longer `pending`.",
        "Checkouts",
        who=(BUYER, SERVER),
        parameters=("CheckoutId", "UserIdQuery", "Prefer"),
        answers={200: ("The checkout, whatever became of it", schemas.Checkout)},
        headers={200: ("RetryAfter", "PreferenceApplied")},
        problems=(*_AUTH, *_EVERY, "invalid_id", "not_found", "invalid_request", "rate_limited"),
    ),
    Operation(
        "get",
        "/v1/subscription",
        "readSubscription",
        "Read access and subscription",
        "Whether the user may use the product, decided from what Stripe last said. Where the catalog gives new users a"
        " trial of the product, their first call begins it.",
        "Subscription",
        who=(BUYER, SERVER),
        parameters=("UserIdQuery",),
        answers={200: ("Access, and the subscription if there is one", schemas.SubscriptionAnswer)},
        problems=(*_AUTH, *_EVERY, "invalid_request", "rate_limited"),
    ),
    _change(
        "post",
        "/v1/subscription/cancel",
        "cancelSubscription",
        "Cancel at the end of the period",
        "Access stays until then. A planned change of plan is taken back first.",
        bodies=(schemas.NoBody, schemas.ServerBody),
        problems=("already_canceling",),
    ),
    _change(
        "post",
        "/v1/subscription/reactivate",
        "reactivateSubscription",
        "Take a cancellation back",
        "Where none is planned, nothing is changed and the answer is the same.",
        bodies=(schemas.NoBody, schemas.ServerBody),
    ),
    _change(
        "post",
        "/v1/subscription/switch",
        "switchPlan",
        "Change the plan at the end of the period",
        "The same subscription goes on with the other plan's price; nothing is billed before.",
        bodies=(schemas.SwitchBody, schemas.ServerSwitchBody),
        problems=("already_on_plan", "already_canceling"),
    ),
    _change(
        "delete",
        "/v1/subscription/switch",
        "undoSwitch",
        "Take a planned change of plan back",
        "Where none is planned, nothing is changed and the answer is the same. With a server key, name the user in"
        " the body or as `?user_id=`.",
        bodies=(schemas.NoBody, schemas.ServerBody),
        parameters=("UserIdQuery",),
    ),
    _change(
        "post",
        "/v1/portal-sessions",
        "openPortal",
        "Open Stripe's billing portal",
        "Send the user to `url` at once: whoever has it can change the subscription.",
        bodies=(schemas.PortalBody, schemas.ServerPortalBody),
    ),
    Operation(
        "get",
        "/v1/operations/{id}",
        "readOperation",
        "Read an operation",
        "What became of a change that was answered with 202. `Prefer: wait=N` holds the answer back until it is no"
        " longer `pending`.",
        "Subscription",
        who=(BUYER, SERVER),
        parameters=("OperationId", "UserIdQuery", "Prefer"),
        answers={200: ("The operation, whatever became of it", schemas.Operation)},
        headers={200: ("RetryAfter", "PreferenceApplied")},
        problems=(*_AUTH, *_EVERY, "invalid_id", "not_found", "invalid_request", "rate_limited"),
    ),
    Operation(
        "get",
        "/v1/plans",
        "listPlans",
        "List the plans",
        "The catalog's public part. No login needed.",
        "Subscription",
        answers={200: ("The plans", schemas.Plans)},
        problems=("internal",),
    ),
    Operation(
        "put",
        "/v1/customers/{user_id}",
        "claimCustomer",
        "Name an existing Stripe customer",
        "For users who had a Stripe customer before. Saying the same again changes nothing.",
        "Customers",
        who=(SERVER,),
        bodies=(schemas.CustomerBody,),
        parameters=("UserIdPath",),
        answers={200: ("The customer is this user's", schemas.Customer)},
        problems=(
            *_BODY,
            *_AUTH,
            *_EVERY,
            "forbidden",
            "invalid_id",
            "customer_taken",
            "user_erased",
            "not_found",
            "rate_limited",
        ),
    ),
    Operation(
        "post",
        "/webhooks/stripe",
        "receiveEvent",
        "Deliver an event",
        "For Stripe. A 2xx means that the event is committed to the ledger; after 503 Stripe sends it again.",
        "Webhooks",
        who=(STRIPE,),
        bodies=(),
        answers={200: ("Committed", schemas.Delivery)},
        problems=("bad_request", "invalid_signature", "invalid_event", "payload_too_large", *_EVERY),
    ),
    Operation(
        "get",
        "/healthz",
        "isAlive",
        "Alive",
        "Whether the process answers. Looks at nothing else.",
        "Operations",
        answers={200: ("Alive", schemas.Alive)},
        problems=("internal",),
    ),
    Operation(
        "get",
        "/readyz",
        "isReady",
        "Ready",
        "Whether the database, its migrations and the broker are ready.",
        "Operations",
        answers={200: ("Ready", schemas.Readiness), 503: ("Not ready", schemas.Readiness)},
        problems=("internal",),
    ),
    Operation(
        "get",
        "/metrics",
        "readMetrics",
        "Figures for Prometheus",
        "Text in Prometheus' exposition format.",
        "Operations",
        answers={200: ("Figures", "text/plain")},
        problems=("internal",),
    ),
    Operation(
        "get",
        "/openapi.json",
        "readDocument",
        "This document",
        "OpenAPI 3.1.",
        "Operations",
        answers={200: ("The document", "application/json")},
        problems=("internal",),
    ),
)

TAGS = {
    "Checkouts": "A buyer asks for a payment page.",
    "Subscription": "What a user has, and what there is to buy.",
    "Customers": "Users who already are Stripe customers.",
    "Webhooks": "What Stripe tells.",
    "Operations": "For whoever runs the service.",
}
