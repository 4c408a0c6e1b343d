"""The OpenAPI 3.1 document, built from the table of routes and the pydantic models.

Tests compare it with the routes that exist and with every answer that they receive. A status, code or field that is
missing here fails there (API-53).
"""

from collections.abc import Iterable, Iterator, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.bodies import schemas
from app.errors.problems import PROBLEMS
from app.openapi import BUYER, OPERATIONS, SERVER, STRIPE, TAGS, Operation, answers
from app.openapi.changes import Change, webhooks
from billing.rules.ids import MAX_USER_ID

Schema = dict[str, Any]


def document(*, address: str = "/") -> Schema:
    """Build the document. `address` is where it is served from, without a slash at its end."""
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
        "servers": [{"url": address}],
        "tags": [{"name": name, "description": text} for name, text in TAGS.items()],
        "paths": paths,
        "webhooks": webhooks(),
        "components": {
            "schemas": _schemas(),
            "parameters": _PARAMETERS,
            "headers": {name: _described(text, kind) for name, (_, text, kind) in _HEADERS.items()},
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
        built["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": {"schema": schema}},
        }
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
        yield str(status), {"description": f"{text}.", "headers": _headers(names), "content": content}
    for status, failure in failures.items():
        more = _headers(operation.headers.get(status, ()))
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
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            names += ["RateLimit", "RateLimitPolicy"]
        if status == HTTPStatus.UNAUTHORIZED:
            names.append("WwwAuthenticate")
        exact = {"properties": {"code": {"enum": same}, "status": {"const": status}}}
        responses[status] = {
            "description": " · ".join(f"`{code}`: {PROBLEMS[code].title}" for code in same),
            "headers": _headers(names),
            "content": {
                "application/problem+json": {"schema": {"allOf": [_ref(answers.ProblemDetails), exact]}},
            },
        }
    return responses


def _schemas() -> Schema:
    used: set[type[BaseModel]] = {model for operation in OPERATIONS for model in operation.bodies}
    used |= {model for operation in OPERATIONS for _, model in operation.answers.values() if not isinstance(model, str)}
    used |= {answers.ProblemDetails, Change}
    models = sorted(used, key=lambda model: model.__name__)
    _, top = models_json_schema(
        [(model, "validation") for model in models],
        ref_template="#/components/schemas/{model}",
    )
    return {name: _without_defaults(schema) for name, schema in top["$defs"].items()}


def _without_defaults(schema: Schema) -> Schema:
    """Leave out what a field is when it is not sent: generators take a field with a default for one that always is."""
    properties = {
        name: {key: value for key, value in field.items() if key != "default"}
        for name, field in schema.get("properties", {}).items()
    }
    return {**schema, "properties": properties} if properties else schema


def _headers(names: Iterable[str]) -> Schema:
    return {_HEADERS[name][0]: {"$ref": f"#/components/headers/{name}"} for name in names}


def _ref(model: type[BaseModel]) -> Schema:
    return {"$ref": f"#/components/schemas/{model.__name__}"}


def _in_path(name: str, schema: Schema) -> Schema:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _described(text: str, kind: str) -> Schema:
    return {"description": text, "schema": {"type": kind}}


_USER_ID = {"type": "string", "minLength": 1, "maxLength": MAX_USER_ID, "pattern": schemas.PRINTABLE}
_PARAMETERS: Schema = {
    "CheckoutId": _in_path("id", {"type": "string", "pattern": "^chk_[a-z0-9]{1,60}$"}),
    "OperationId": _in_path("id", {"type": "string", "pattern": "^op_[a-z0-9]{1,60}$"}),
    "UserIdPath": _in_path("user_id", _USER_ID),
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
        " same checkout or operation as it is now; another body is refused.",
        "schema": {"type": "string", "pattern": '^("[ !#-~]{1,255}"|[!#-~][!-~]{0,254})$'},
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
# By the name of the component: the header's own, what it says, and its type.
_HEADERS: Mapping[str, tuple[str, str, str]] = {
    "RequestId": ("Request-Id", "Names this request in our log.", "string"),
    "Location": ("Location", "Where the checkout or operation is read.", "string"),
    "RetryAfter": ("Retry-After", "Seconds until it is worth asking again.", "integer"),
    "RateLimit": ("RateLimit", "Which rate was met, what is left of it, and for how many seconds.", "string"),
    "RateLimitPolicy": ("RateLimit-Policy", "That rate: its quota and its window in seconds.", "string"),
    "IdempotentReplayed": (
        "Idempotent-Replayed",
        "`true` when an earlier request with this Idempotency-Key made it.",
        "string",
    ),
    "PreferenceApplied": ("Preference-Applied", "The wait that was honoured.", "string"),
    "WwwAuthenticate": ("WWW-Authenticate", "How to log in.", "string"),
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
