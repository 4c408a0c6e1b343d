"""Around every request: a Request-Id, headers that bind the browser, CORS for the buyers' pages, one log line.

Bodies, query strings and headers are never logged; a path only as the route that it matched.
"""

import random
import re
import time
from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import structlog
from flask import Flask, Response, g, request
from flask_cors import CORS
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors.problems import UnreadableQuery

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

log = structlog.get_logger(__name__)

# A caller's own id is taken over when it is harmless in a log and in a header.
_REQUEST_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{7,63}")
_PREFIX = r"(/[A-Za-z0-9._~-]+)+/?"
_PREFIXES = re.compile(rf"{_PREFIX}(\s*,\s*{_PREFIX})*")

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
ANSWER_POLICY = "default-src 'none'; frame-ancestors 'none'"
# What every answer carries; a page has a policy of its own.
ANSWER_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": ANSWER_POLICY,
}


def guard(app: Flask, *, origins: Sequence[str], trusted_proxies: int) -> None:
    """Set up what holds for every request (API-1, API-9, API-33, API-34)."""
    if trusted_proxies:
        # Exactly as many hops as the operator vouches for: what a client writes further left counts for nothing.
        believed = ProxyFix(app.wsgi_app, x_for=trusted_proxies, x_proto=trusted_proxies, x_prefix=trusted_proxies)
        app.wsgi_app = partial(_plain_prefix, believed)  # type: ignore[method-assign]
    app.before_request(_begin)
    _allow_origins(app, origins)
    app.after_request(_finish)


def _plain_prefix(wsgi: "WSGIApplication", environ: "WSGIEnvironment", start: "StartResponse") -> Iterable[bytes]:
    """Leave out a prefix that is no plain path: it would become part of Location (API-100)."""
    if not _PREFIXES.fullmatch(environ.get("HTTP_X_FORWARDED_PREFIX", "")):
        environ.pop("HTTP_X_FORWARDED_PREFIX", None)
    return wsgi(environ, start)


def refuse_unreadable_query() -> None:
    """Refuse a query that is not UTF-8: two different ones would read the same (API-93). Raises UnreadableQuery."""
    try:
        unquote_to_bytes(request.query_string).decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableQuery("The query is not in UTF-8.") from None


def request_id_for(given: str) -> str:
    """The request's id: the caller's own where that will do, else a new one."""
    # Nobody needs to be kept from guessing it, and the kernel's random numbers take 2 µs.
    return given if _REQUEST_ID.fullmatch(given) else f"req_{random.getrandbits(128):032x}"


def log_answer(method: str, route: str, status: int, *, started: float, quiet: bool = False) -> None:
    """One line about a request; at DEBUG where it went well and was a read, or is `quiet`: another line tells of it."""
    dull = (method in ("GET", "HEAD", "OPTIONS") or quiet) and status < 400
    (log.debug if dull else log.info)(
        "request.answered",
        method=method,
        route=route,
        status=status,
        ms=round((time.monotonic() - started) * 1000, 1),
    )


def _begin() -> None:
    g.request_id = request_id_for(request.headers.get("Request-Id", ""))
    g.started = time.monotonic()
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _finish(answer: Response) -> Response:
    answer.headers["Request-Id"] = g.request_id
    if answer.mimetype == "text/html":
        answer.headers.setdefault("Content-Security-Policy", PAGE_POLICY)
    for name, value in ANSWER_HEADERS.items():
        answer.headers.setdefault(name, value)
    route = request.url_rule.rule if request.url_rule else "-"
    log_answer(request.method, route, answer.status_code, started=g.started, quiet="logged" in g)
    return answer


def _allow_origins(app: Flask, origins: Sequence[str]) -> None:
    """Let the pages of these origins call /v1; no cookies are involved, the token is in a header."""
    if not origins:
        return
    CORS(
        app,
        resources=[r"/v1/.*"],
        # Patterns, anchored: the library takes a text with brackets (an IPv6 host) for an unanchored pattern.
        origins=[re.compile(re.escape(origin) + r"\Z") for origin in origins],
        methods=["GET", "POST", "PUT", "DELETE", "OPTIONS"],
        allow_headers=["Authorization", "Content-Type", "Idempotency-Key", "Prefer", "Request-Id"],
        expose_headers=[
            "Location",
            "Retry-After",
            "RateLimit",
            "RateLimit-Policy",
            "Request-Id",
            "Idempotent-Replayed",
            "Preference-Applied",
        ],
        max_age=600,
        supports_credentials=False,
        always_send=False,
    )
