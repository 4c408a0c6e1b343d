"""One attempt to deliver an event: the signed request, and its answer."""

import contextlib
import hashlib
import hmac
import http.client
import time
from typing import Any
from urllib.parse import urlsplit


def signature(payload: bytes, secrets: list[str], moment: int) -> str:
    """Stripe's header: one `v1` for each active secret."""
    signed = f"{moment}.".encode() + payload
    digests = (hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets)
    return f"t={moment}," + ",".join(f"v1={digest}" for digest in digests)


def post(url: str, payload: bytes, secrets: list[str], timeout: float) -> tuple[int, str | None]:
    """One attempt: the status, or 0 and why there was none. Redirects are answers, and no success."""
    parts = urlsplit(url)
    opener = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        "Accept": "*/*; q=0.5, application/xml",
        "Cache-Control": "no-cache",
        "Content-Type": "application/json; charset=utf-8",
        "Stripe-Signature": signature(payload, secrets, int(time.time())),
        "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }
    connection: Any = None
    try:
        connection = opener(parts.hostname or "", parts.port, timeout=timeout)
        connection.request("POST", target, body=payload, headers=headers)
        answer = connection.getresponse()
        answer.read(65536)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 0, type(error).__name__
    else:
        return answer.status, None
    finally:
        if connection is not None:
            with contextlib.suppress(OSError):
                connection.close()
