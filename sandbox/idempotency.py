"""Idempotency keys, as Stripe keeps them.

Once execution began, the first answer is saved under its key, a 500 included. Then the same request gets the same
(old) body for 24 hours of the sandbox's clock. Not saved: malformed parameters, 401, 409, 429. Other parameters under a
used key are refused; a key whose first request still runs answers 409.
"""

import hashlib
import json

from .errors import ApiError, Json
from .store import Store

KEPT_SECONDS = 24 * 3600
_KIND = "idempotency_key"


def record_id(livemode: bool, key: str) -> str:
    return f"{'live' if livemode else 'test'}:{key}"


def fingerprint(method: str, path: str, params: Json) -> str:
    text = json.dumps([method, path, params], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def check_key(key: str) -> None:
    if len(key) > 255:
        raise ApiError(
            400,
            "Idempotency keys can be at most 255 characters long.",
            type="idempotency_error",
            code="idempotency_key_too_long",
        )


def begin(store: Store, id: str, print_: str, request_id: str, now: float) -> Json | None:
    """The saved answer (`status`, `text`), or None: then the key is taken and the request may run."""
    old = store.get(_KIND, id)
    if old is not None and old["expires_at"] <= now:
        old = None
    if old is not None and old["print"] != print_:
        raise ApiError(
            400,
            "Keys for idempotent requests can only be used with the same parameters they were first used with. Try"
            f" using a key other than '{id[5:]}' if you meant to execute a different request.",
            type="idempotency_error",
        )
    if old is not None and old["status"] is None:
        raise ApiError(
            409,
            "There is currently another in-progress request using this Idempotent Key (that probably means you"
            f" submitted twice, and the other request is still going through): {id[5:]}. Please try again later.",
            type="idempotency_error",
            code="idempotency_key_in_use",
        )
    if old is not None:
        return old
    expires_at = now + KEPT_SECONDS
    store.put(
        _KIND,
        {
            "id": id,
            "print": print_,
            "request_id": request_id,
            "status": None,
            "text": "",
            "expires_at": expires_at,
            "_due": expires_at,
        },
    )
    return None


def save(store: Store, id: str, status: int, text: str) -> None:
    store.change(_KIND, id, status=status, text=text)


def forget(store: Store, id: str) -> None:
    store.remove(_KIND, id)


def forget_running(store: Store) -> None:
    """After a restart nothing runs: a key that was taken when the process died is free again."""
    for one in store.all(_KIND):
        if one["status"] is None:
            store.remove(_KIND, one["id"])
