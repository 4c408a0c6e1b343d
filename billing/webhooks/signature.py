"""Stripe's webhook signature, checked strictly over the bytes as they came. Pure.

`Stripe-Signature: t=1700000000,v1=<64 hex>[,v1=...][,v0=...]`. Every configured secret is tried, in constant
time. Whatever is not written exactly like that is refused: never guessed at, never an exception of another kind.
"""

import hmac
import re
from collections.abc import Sequence
from typing import NamedTuple

from billing.errors import InvalidSignature

TOLERANCE_SECONDS = 300  # both ways: Stripe's own tolerance for old ones; the SDK lets any future time pass
MAX_HEADER = 4096
MAX_SIGNATURES = 10  # one per active secret while rolling; more is somebody trying
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_SIGNATURE = re.compile(r"[0-9a-f]{64}")
_ELEMENT = re.compile(r"([a-z][a-z0-9]{0,9})=([0-9A-Za-z]{1,128})")


class Signature(NamedTuple):
    """A header that was read: the time as it is written, and the one to ten v1 signatures in hex."""

    timestamp: str
    values: Sequence[str]


def read_signature(header: str | None, *, now: float) -> Signature:
    """All that the header says before the body is there. Raises InvalidSignature: malformed, or not of now."""
    signature = _read(header)
    if abs(now - int(signature.timestamp)) > TOLERANCE_SECONDS:
        raise InvalidSignature("The signature's time is more than 300 s away from ours. Check this machine's clock.")
    return signature


def verify(body: bytes, signature: Signature, secrets: Sequence[str]) -> None:
    """Raise InvalidSignature unless one of the secrets signed these bytes (WHK-2 to WHK-5)."""
    expected = [_mac(secret, signature.timestamp, body) for secret in secrets]
    # The list is built whole: which secret or which signature matched does not show in the time taken.
    matches = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in signature.values]
    if not any(matches):
        raise InvalidSignature("No configured signing secret made this signature. Check STRIPE_WEBHOOK_SECRETS.")


def sign(body: bytes, secret: str, *, now: float) -> str:
    """The header that `verify` accepts: for tests and for events that we send ourselves."""
    timestamp = str(int(now))
    return f"t={timestamp},v1={_mac(secret, timestamp, body)}"


def _mac(secret: str, timestamp: str, body: bytes) -> str:
    return hmac.digest(secret.encode(), b"%s.%s" % (timestamp.encode(), body), "sha256").hex()


def _read(header: str | None) -> Signature:
    if not header:
        raise InvalidSignature("There is no Stripe-Signature header.")
    if len(header) > MAX_HEADER:
        raise InvalidSignature("The Stripe-Signature header is longer than 4 KiB.")
    timestamps, signatures = [], []
    for element in header.split(","):
        match = _ELEMENT.fullmatch(element)
        if match is None:
            raise InvalidSignature("The Stripe-Signature header is malformed.")
        scheme, value = match.groups()
        if scheme == "t":
            timestamps.append(value)
        elif scheme == "v1":
            signatures.append(value)
    if len(timestamps) != 1 or not _TIMESTAMP.fullmatch(timestamps[0]):
        raise InvalidSignature("The Stripe-Signature header needs exactly one time of 1 to 12 digits.")
    if not 1 <= len(signatures) <= MAX_SIGNATURES or not all(map(_SIGNATURE.fullmatch, signatures)):
        raise InvalidSignature("The Stripe-Signature header needs one to ten v1 signatures in lower-case hex.")
    return Signature(timestamps[0], signatures)
