"""Crowds: a caller who has too many requests in hand at once gets 429 for the next, before anything is done for it.

Counted by the credential as it was sent, unread, and answered in front of Flask: what a storm of a thousand costs the
others is what turning it away costs. Those in hand are worked on one after the other, from their first step to their
last; whoever waits for a body or a worker steps aside. Server keys speak for many users and have no such limits; their
users have their shares of seats and turns like everybody's (API-38).
"""

import json
from collections.abc import Callable, Collection, Iterable
from typing import Any

from flask import Flask

from app.auth import Identity
from app.errors import PROBLEMS
from app.limits import TURN, Share, Turns
from app.request_hooks import ANSWER_POLICY, new_request_id

RETRY_AFTER_SECONDS = 1  # by then most of what this caller has in hand is answered
_KIND = PROBLEMS["rate_limited"]
_PROBLEM = {
    "type": "/docs#rate_limited",
    "title": _KIND.title,
    "status": _KIND.status,
    "detail": f"Too many requests at the same moment. Try again in {RETRY_AFTER_SECONDS} s.",
    "code": "rate_limited",
    "retryable": _KIND.retryable,
}
_HEADERS = [
    ("Content-Type", "application/problem+json"),
    ("Retry-After", str(RETRY_AFTER_SECONDS)),
    ("Cache-Control", "no-store"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Content-Security-Policy", ANSWER_POLICY),
]


def turn_crowds_away(app: Flask, *, identity: Identity, shares: Share, turns: Turns, origins: Collection[str]) -> None:
    """Count each caller's requests in hand, answer those beyond their share, and line up the others."""
    handle = app.wsgi_app

    def counted(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        credential = environ.get("HTTP_AUTHORIZATION", "")
        if not credential or identity.is_server_key(credential):
            return handle(environ, start_response)
        with shares.take(credential) as taken:
            if not taken:
                return _turned_away(environ.get("HTTP_ORIGIN", ""), origins, start_response)
            with turns.take(credential) as environ[TURN]:
                return handle(environ, start_response)  # our answers are made whole before this returns

    app.wsgi_app = counted  # type: ignore[method-assign]


def _turned_away(origin: str, origins: Collection[str], start_response: Callable[..., Any]) -> Iterable[bytes]:
    request_id = new_request_id()
    body = json.dumps({**_PROBLEM, "request_id": request_id}).encode()
    headers = [*_HEADERS, ("Request-Id", request_id), ("Content-Length", str(len(body)))]
    if origin in origins:  # a page's script may know why
        headers += [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        headers += [("Access-Control-Expose-Headers", "Retry-After, Request-Id")]
    start_response("429 TOO MANY REQUESTS", headers)
    return [body]
