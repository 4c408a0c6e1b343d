"""The one place that turns an error of Stripe's SDK into one of `billing/errors.py`.

Status, code and headers decide, never the message: Stripe changes its texts. The message is for the operator to read.
"""

from collections.abc import Mapping
from typing import Any

import stripe

from billing.errors import (
    OnelaneError,
    StripeBusy,
    StripeKeyTaken,
    StripeMisconfigured,
    StripeMissing,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
    StripeUnserved,
)
from billing.process.logs import redact_text

_MISSING = ("resource_missing", "not_found")  # the second in the v2 API
LONGEST_MESSAGE = 600  # Stripe's longest sentences have 500


def translate(error: stripe.StripeError, label: str) -> OnelaneError:
    """Give the error to raise. `label` is the method and the route of the request."""
    status, headers = error.http_status, error.headers or {}
    body = error.json_body if isinstance(error.json_body, Mapping) else {}
    raw = body.get("error")
    details: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    request_id = error.request_id or headers.get("Request-Id")
    request = f" (request {request_id})" if request_id else ""
    if status == 403 and details:  # without details a proxy answered
        return StripeMisconfigured(
            f"Stripe does not let STRIPE_API_KEY do {label}{request}. The operator must give that key the permission;"
            " SECURITY.md lists what it needs."
        )
    if status == 401 and details:
        return StripeMisconfigured(
            f"Stripe does not accept STRIPE_API_KEY{request}. The operator must set a valid one."
        )
    if status == 429:
        sentence = f"Stripe asks to slow down{request}."
        return StripeBusy(sentence, status=status, retry_after=_seconds(headers))
    if status is None:
        return StripeUnclear("Stripe did not answer: it was not reached, took too long, or broke off.")
    if status == 409 or not details or status in (502, 503, 504):
        return StripeUnclear(
            f"Stripe gave no clear answer (status {status}){request}.",
            status=status,
            retry_after=_seconds(headers),
        )
    if status >= 500:
        if label.startswith("GET "):
            return StripeUnclear(f"Stripe failed to answer a read (status {status}){request}.", status=status)
        replayed = str(headers.get("Idempotent-Replayed", headers.get("idempotent-replayed", ""))).lower() == "true"
        return StripeSavedFailure(f"Stripe failed with {status}{request}.", replayed=replayed)
    if status < 400:
        return StripeUnclear(f"Stripe's answer could not be read (status {status}){request}.", status=status)
    code, param = details.get("code"), details.get("param")
    if isinstance(error, stripe.IdempotencyError):
        return StripeKeyTaken(_refusal(label, details, "idempotency_error", param, request))
    if code in ("rate_limit", "lock_timeout", "idempotency_key_in_use"):
        return StripeUnclear(f"Stripe asks to slow down{request}.", status=status, retry_after=_seconds(headers))
    if status == 404 and code not in _MISSING:  # of the address, not of an object: else everybody would be gone
        sentence = f"What answers as Stripe does not know {label}{request}. Look at STRIPE_API_BASE."
        return StripeUnserved(sentence, status=status)
    kind = StripeMissing if status == 404 else StripeRefused
    return kind(_refusal(label, details, code, param, request), status=status, stripe_code=code, param=param)


def _refusal(label: str, details: Mapping[str, Any], code: str | None, param: str | None, request: str) -> str:
    """What the operator reads: Stripe's own words, without secrets and emails, and where to look it up."""
    words = _plain(redact_text(str(details.get("message") or ""))[:LONGEST_MESSAGE]).strip()
    named = [f"code {code}"] if code else []
    named += [f"parameter {param}"] if param else []
    about = _plain(f" ({', '.join(named)})") if named else ""
    return f"Stripe refused {label}{about}{request}: {words or details.get('type') or 'no reason given'}"


def _plain(words: str) -> str:
    """Without what no database takes for text: Stripe's sentences repeat what somebody typed (LED-80)."""
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in words)


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After") or headers.get("retry-after") or ""
    return float(value) if value.isdecimal() else None
