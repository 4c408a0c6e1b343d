"""A client for tests of the web: it knows how to log in, and holds every answer against the OpenAPI document.

An answer whose status, code or fields are not documented fails the test that received it, whatever that
test was about (API-53). The document lets answers grow; here each field has to be in it.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import jwt
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012
from werkzeug.test import TestResponse

from app.openapi.document import document

JWT_SECRET = "a-secret-of-64-bytes,-so-that-tests-can-also-sign-with-HS512-....."
API_KEYS = ("server-key-number-one-0001", "server-key-number-two-0002")
ORIGIN = "https://app.example"
BODY = {"plan": "standard", "success_url": f"{ORIGIN}/ok", "cancel_url": f"{ORIGIN}/no"}
DOCUMENT = document()


def strictly(whole: Mapping[str, Any]) -> dict[str, Any]:
    """The document with every schema that lists its fields closed to others."""
    schemas = {
        name: {"additionalProperties": False, **schema} if "properties" in schema else schema
        for name, schema in whole["components"]["schemas"].items()
    }
    return {**whole, "components": {**whole["components"], "schemas": schemas}}


_REGISTRY: Registry[Any] = Registry().with_resource("urn:api", Resource(strictly(DOCUMENT), DRAFT202012))


def hold(body: Any, schema: Mapping[str, Any]) -> None:
    """Hold a body against a schema of the document, no field being left over."""
    Draft202012Validator(_absolute(schema), registry=_REGISTRY).validate(body)


def token(user: str = "user_1", *, secret: str = JWT_SECRET, **instead: Any) -> str:
    """A buyer's token, good for a minute; a claim given as None is left out."""
    claims = {"sub": user, "exp": int(time.time()) + 60, **instead}
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, secret, "HS256")


class Web:
    """Callers of one application."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.client: FlaskClient = app.test_client()

    def get(self, path: str, *, user: str | None = "user_1", **more: Any) -> TestResponse:
        return self.call("GET", path, user=user, **more)

    def checkout(self, *, user: str | None = "user_1", body: Mapping[str, Any] = BODY, **more: Any) -> TestResponse:
        """Ask for a checkout; fields of the body can be given by name."""
        names = [name for name in more if name not in ("headers", "bearer")]
        fields = {name: more.pop(name) for name in names}
        return self.call("POST", "/v1/checkouts", user=user, json={**body, **fields}, **more)

    def call(
        self,
        method: str,
        path: str,
        *,
        user: str | None = "user_1",
        bearer: str | None = None,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> TestResponse:
        """Send a request, as a user unless `bearer` says otherwise or `user` is None; check the answer."""
        sent = dict(headers or {})
        if bearer is not None or user is not None:
            sent.setdefault("Authorization", f"Bearer {bearer if bearer is not None else token(user or '')}")
        answer = self.client.open(path, method=method, headers=sent, buffered=True, **more)
        check(answer, method, path)
        return answer


def check(answer: TestResponse, method: str, path: str) -> None:
    """Hold an answer against the document."""
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}", answer.headers["Request-Id"])
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    if answer.status_code >= 400 and answer.mimetype != "application/json":
        check_problem(answer)
    operation = _operation(method, path.partition("?")[0])
    if operation is None or method == "OPTIONS":
        return
    response = operation["responses"].get(str(answer.status_code))
    assert response, (
        f"{method} {path} is not documented to answer {answer.status_code}: {answer.get_data(as_text=True)}"
    )
    assert answer.mimetype in response["content"], f"{answer.mimetype} is not documented"
    for name in ("Location", "Retry-After", "Idempotent-Replayed", "Preference-Applied", "WWW-Authenticate"):
        assert name not in answer.headers or name in response["headers"], f"{name} is not documented"
    schema = response["content"][answer.mimetype].get("schema")
    if schema:
        hold(answer.get_json(force=True), schema)


def check_problem(answer: TestResponse) -> None:
    """Every failure has one shape (API-2, API-8)."""
    assert answer.mimetype == "application/problem+json", answer.get_data(as_text=True)
    body = answer.get_json(force=True)
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["Request-Id"]
    assert body["type"] == f"/docs#{body['code']}"
    assert isinstance(body["retryable"], bool)
    assert answer.status_code not in (429, 503) or int(answer.headers["Retry-After"]) > 0


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, methods in DOCUMENT["paths"].items():
        # A user's id may have slashes, a checkout's may not.
        pattern = re.escape(template).replace(r"\{id\}", "[^/]+").replace(r"\{user_id\}", ".+")
        if re.fullmatch(pattern, path):
            return methods.get(method.lower())
    return None


def _absolute(schema: Any) -> Any:
    """The schema with its references pointing into the document."""
    if isinstance(schema, list):
        return [_absolute(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    return {name: f"urn:api{value}" if name == "$ref" else _absolute(value) for name, value in schema.items()}
