"""The one place that turns an error of Stripe's SDK into one of `billing/errors.py`.

Status, code and headers decide, never the message: Stripe changes its texts.
"""

from collections.abc import Mapping
from typing import Any

import stripe

from billing.errors import (
    OnelaneError,
    StripeBusy,
    StripeMisconfigured,
    StripeMissing,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
)


def translate(error: stripe.StripeError, label: str) -> OnelaneError:
    """Give the error to raise. `label` is the method and the route of the request."""
    status, headers = error.http_status, error.headers or {}
    body = error.json_body if isinstance(error.json_body, Mapping) else {}
    raw = body.get("error")
    details: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    request = f" (request {error.request_id})" if error.request_id else ""
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
    if status is None or status == 409 or not details or status in (502, 503, 504):
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
    code = details.get("code")
    if isinstance(error, stripe.IdempotencyError):
        code = "idempotency_error"
    elif code in ("rate_limit", "lock_timeout", "idempotency_key_in_use"):
        return StripeUnclear(f"Stripe asks to slow down{request}.", status=status, retry_after=_seconds(headers))
    param = details.get("param")
    kind = StripeMissing if status == 404 else StripeRefused
    sentence = f"Stripe refused the request: {code or details.get('type')}, parameter {param}{request}."
    return kind(sentence, status=status, stripe_code=code, param=param)


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After") or headers.get("retry-after") or ""
    return float(value) if value.isdecimal() else None
