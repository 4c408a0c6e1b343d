"""Errors as answers. What a person reads is the error's own sentence; an unexpected exception says nothing.

`render` is the one function that writes a problem, for Flask (`problem`) and for `app/serving/asgi.py` (`refusal`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from app.errors.problems import PROBLEMS, RateLimited
from billing.errors import InvalidRequest, OnelaneError, TransientError

log = structlog.get_logger(__name__)


def register(app: Flask) -> None:
    """Answer every error of this application as a problem."""
    app.register_error_handler(OnelaneError, _own)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


@dataclass(frozen=True, slots=True)
class Rendered:
    """An answer that is whole."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def render(
    code: str,
    detail: str | None = None,
    *,
    request_id: str,
    status: int | None = None,
    errors: Sequence[Mapping[str, str]] = (),
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
    **extra: Any,
) -> Rendered:
    """Write a problem. `extra` are members of its own kind, such as the subscription's status."""
    kind = PROBLEMS[code]
    body: dict[str, Any] = {
        "type": f"/docs#{code}",
        "title": kind.title,
        "status": status or kind.status,
        "detail": detail or kind.title,
        "code": code,
        "request_id": request_id,
        "retryable": kind.retryable,
        **extra,
    }
    if errors:
        body["errors"] = list(errors)
    fields = {"Content-Type": "application/problem+json", "Cache-Control": "no-store", **(headers or {})}
    if wait := retry_after or kind.retry_after:
        fields["Retry-After"] = str(wait)
    if body["status"] == 401:
        fields["WWW-Authenticate"] = 'Bearer realm="onelane"'
    return Rendered(body["status"], fields, json.dumps(body).encode())


def problem(code: str, detail: str | None = None, **more: Any) -> Response:
    """A problem as Flask's answer; what more there may be: see `render`."""
    rendered = render(code, detail, request_id=g.get("request_id", ""), **more)
    return Response(rendered.body, status=rendered.status, headers=dict(rendered.headers))


def refusal(error: Exception, *, request_id: str) -> Rendered:
    """The problem that an error becomes: its own code and sentence where it was raised on purpose."""
    if not isinstance(error, OnelaneError):  # a bug: the log gets the traceback, and neither body nor headers
        log.error("request.failed", exc_info=error)
        return render("internal", request_id=request_id)
    code = error.code
    if code not in PROBLEMS:
        code = "try_again" if isinstance(error, TransientError) else "internal"
    if PROBLEMS[code].status >= 500:
        log.warning("request.refused", code=error.code, error=type(error).__name__, reason=error.for_operator)
    if code == "internal":
        return render(code, request_id=request_id)
    limited = error if isinstance(error, RateLimited) else None
    return render(
        code,
        error.sentence,
        request_id=request_id,
        errors=error.errors if isinstance(error, InvalidRequest) else (),
        retry_after=limited.retry_after if limited else None,
        headers=limited.limit if limited else None,
    )


def _own(error: OnelaneError) -> Response:
    rendered = refusal(error, request_id=g.get("request_id", ""))
    return Response(rendered.body, status=rendered.status, headers=dict(rendered.headers))


_CODE_OF_STATUS = {
    404: "not_found",
    405: "method_not_allowed",
    413: "payload_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    500: "internal",
    503: "try_again",
}


def _http(error: HTTPException) -> Response | HTTPException:
    """What Werkzeug raises: unknown paths, wrong methods, a body cut off half-way."""
    if isinstance(error, RequestRedirect):
        return error
    code = _CODE_OF_STATUS.get(error.code or 500, "bad_request" if (error.code or 500) < 500 else "internal")
    answer = problem(code)
    for name, value in error.get_headers(request.environ):
        if name == "Allow":
            answer.headers[name] = value
    return answer


def _unexpected(error: Exception) -> Response:
    """A bug. The log gets the traceback and neither body nor headers; the caller gets the request id."""
    log.error("request.failed", method=request.method, route=str(request.url_rule), exc_info=error)
    return problem("internal")
