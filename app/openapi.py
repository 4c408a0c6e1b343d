"""The OpenAPI 3.1 document, put together from one table of operations and the pydantic models.

A test holds it against the routes that exist and against every answer that the tests receive: a status,
a code or a field that is not written here fails there (API-53).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import schemas
from app.errors import PROBLEMS

Schema = dict[str, Any]


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


_BODY = ("bad_request", "invalid_json", "payload_too_large", "unsupported_media_type", "invalid_request")
_AUTH = ("unauthorized", "identity_unavailable")
_EVERY = ("internal", "ledger_unavailable", "try_again")
BUYER, SERVER, STRIPE = "buyer", "server", "stripe"

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
        "Whether the user may use the product, decided from what Stripe last said.",
        "Subscription",
        who=(BUYER, SERVER),
        parameters=("UserIdQuery",),
        answers={200: ("Access, and the subscription if there is one", schemas.SubscriptionAnswer)},
        problems=(*_AUTH, *_EVERY, "invalid_request", "rate_limited"),
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
        problems=(*_BODY, *_AUTH, *_EVERY, "forbidden", "invalid_id", "customer_taken", "not_found"),
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


def document() -> Schema:
    """Build the document."""
    paths: dict[str, Schema] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "onelane",
            "version": version("onelane"),
            "description": "Subscriptions with Stripe in which one customer never buys the same thing twice."
            " JSON in and out, times in ISO 8601 UTC. Errors are problem details (RFC 9457) with a stable `code`.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "parameters": _PARAMETERS,
            "headers": _HEADERS,
            "securitySchemes": _SECURITY,
        },
    }


def _operation(operation: Operation) -> Schema:
    built: Schema = {
        "operationId": operation.name,
        "summary": operation.summary,
        "description": operation.text,
        "tags": [operation.tag],
        "security": [{scheme: []} for scheme in operation.who],
    }
    if operation.parameters:
        built["parameters"] = [{"$ref": f"#/components/parameters/{name}"} for name in operation.parameters]
    if operation.bodies:
        refs = [_ref(model) for model in operation.bodies]
        schema = refs[0] if len(refs) == 1 else {"anyOf": refs}
        built["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    elif operation.who == (STRIPE,):
        event = {"type": "object", "description": "An event as Stripe sends it: its bytes are what is signed"}
        built["requestBody"] = {"required": True, "content": {"application/json": {"schema": event}}}
    built["responses"] = dict(sorted(_responses(operation)))
    return built


def _responses(operation: Operation) -> Iterator[tuple[str, Schema]]:
    failures = _failures(operation.problems)
    for status, (text, model) in operation.answers.items():
        names = ("RequestId", *operation.headers.get(status, ()))
        content = {model: {}} if isinstance(model, str) else {"application/json": {"schema": _ref(model)}}
        content |= failures.pop(status, {}).get("content", {})
        headers = {_HTTP_NAMES[name]: {"$ref": f"#/components/headers/{name}"} for name in names}
        yield str(status), {"description": f"{text}.", "headers": headers, "content": content}
    for status, failure in failures.items():
        more = {
            _HTTP_NAMES[name]: {"$ref": f"#/components/headers/{name}"} for name in operation.headers.get(status, ())
        }
        yield str(status), {**failure, "headers": {**failure["headers"], **more}}


def _failures(codes: tuple[str, ...]) -> dict[int, Schema]:
    """One response for each status that these codes have, with the codes as an enumeration."""
    by_status: dict[int, list[str]] = {}
    for code in codes:
        by_status.setdefault(PROBLEMS[code].status, []).append(code)
    responses: dict[int, Schema] = {}
    for status, same in by_status.items():
        names = ["RequestId"]
        if any(PROBLEMS[code].retry_after for code in same):
            names.append("RetryAfter")
        if status == HTTPStatus.UNAUTHORIZED:
            names.append("WwwAuthenticate")
        exact = {"properties": {"code": {"enum": same}, "status": {"const": status}}}
        responses[status] = {
            "description": " · ".join(f"`{code}`: {PROBLEMS[code].title}" for code in same),
            "headers": {_HTTP_NAMES[name]: {"$ref": f"#/components/headers/{name}"} for name in names},
            "content": {
                "application/problem+json": {"schema": {"allOf": [_ref(schemas.ProblemDetails), exact]}},
            },
        }
    return responses


def _schemas() -> Schema:
    used = {model for operation in OPERATIONS for model in operation.bodies}
    used |= {model for operation in OPERATIONS for _, model in operation.answers.values() if not isinstance(model, str)}
    models = sorted(used | {schemas.ProblemDetails}, key=lambda model: model.__name__)
    _, top = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    return dict(top["$defs"])


def _ref(model: type[BaseModel]) -> Schema:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


_USER_ID = {"type": "string", "minLength": 1, "maxLength": 200}
_PARAMETERS: Schema = {
    "CheckoutId": {
        "name": "id",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^chk_[a-z0-9]{1,60}$"},
    },
    "UserIdPath": {"name": "user_id", "in": "path", "required": True, "schema": _USER_ID},
    "UserIdQuery": {
        "name": "user_id",
        "in": "query",
        "required": False,
        "description": "The user, with a server key; refused with a buyer's token, which names its own.",
        "schema": _USER_ID,
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "in": "header",
        "required": False,
        "description": "Quoted or bare, up to 255 characters, kept for 24 h per user. The same key and body give the"
        " same checkout as it is now; another body is refused.",
        "schema": {"type": "string", "minLength": 1, "maxLength": 257},
    },
    "Prefer": {
        "name": "Prefer",
        "in": "header",
        "required": False,
        "description": "`wait=N`: wait up to N seconds for the answer, at most 20.",
        "schema": {"type": "string"},
        "example": "wait=10",
    },
}
_HTTP_NAMES = {
    "RequestId": "Request-Id",
    "Location": "Location",
    "RetryAfter": "Retry-After",
    "IdempotentReplayed": "Idempotent-Replayed",
    "PreferenceApplied": "Preference-Applied",
    "WwwAuthenticate": "WWW-Authenticate",
}


def _header(text: str, kind: str = "string") -> Schema:
    return {"description": text, "schema": {"type": kind}}


_HEADERS: Schema = {
    "RequestId": _header("Names this request in our log."),
    "Location": _header("Where the checkout is read."),
    "RetryAfter": _header("Seconds until it is worth asking again.", "integer"),
    "IdempotentReplayed": _header("`true` when an earlier request with this Idempotency-Key made the checkout."),
    "PreferenceApplied": _header("The wait that was honoured."),
    "WwwAuthenticate": _header("How to log in."),
}
_SECURITY: Schema = {
    BUYER: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A buyer's signed token; its `sub` is the user.",
    },
    SERVER: {
        "type": "http",
        "scheme": "bearer",
        "description": "One of AUTH_API_KEYS, for the application's own servers; the request names the user.",
    },
    STRIPE: {
        "type": "apiKey",
        "in": "header",
        "name": "Stripe-Signature",
        "description": "HMAC-SHA256 over the body with one of STRIPE_WEBHOOK_SECRETS.",
    },
}
