"""The keys that sign buyers' tokens (JWKS): fetched behind the requests, once for all of them (API-15, API-66, API-90).

A request whose key is known never waits. For an unknown one a fetch is begun, unless one ended a moment ago, and at
most MOST_WAITING requests wait for it. A set that cannot be had or used changes nothing: the last good one stays.
"""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter as Tally
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from app.errors.problems import IdentityUnavailable
from billing.process.deadline import Deadline
from billing.process.unsafe_settings import is_loopback

log = structlog.get_logger(__name__)

# What a key of the set may sign with. HS is missing on purpose: a public key is no shared secret.
ALGORITHMS = frozenset({"RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "EdDSA"})
MOST_BYTES = 1024 * 1024  # a set of ten keys with their certificates has 30 KB
MOST_KEYS = 1000  # that are looked at: half a million small entries would take the processor for half a minute
RSA_BITS = range(2048, 8192 + 1)  # less is weak; more takes milliseconds for each token
MOST_WAITING = 4  # requests, each of which holds a thread


class KeySet:
    """The keys of one address, by their ids."""

    FETCH_SECONDS = 3.0
    LIFESPAN_SECONDS = 900.0
    PAUSE_SECONDS = 5.0  # after a fetch that failed
    # A key that was published a moment ago waits so long at most; strangers' made-up ids cost the provider no more.
    COOLDOWN_SECONDS = 10.0

    def __init__(self, url: str) -> None:
        self._url = url
        self._deadline = Deadline(self.FETCH_SECONDS, most=MOST_WAITING)
        self._changed = threading.Condition()
        self._keys: Mapping[str, jwt.PyJWK] = {}
        self._is_fetching, self._has_failed = False, False
        self._fetched_at = self._ended_at = float("-inf")  # the last good fetch, and the last one
        self._waiting = 0

    def find(self, key_id: str) -> jwt.PyJWK | None:
        """The key of this id; None where the provider has none. Raises IdentityUnavailable while that is not known."""
        with self._changed:
            if key := self._keys.get(key_id):
                if time.monotonic() - self._fetched_at > self.LIFESPAN_SECONDS:
                    self._fetch_soon()
                return key
            if self._fetch_soon():
                self._wait()
            if self._has_failed or not self._keys:
                log.warning("identity.unavailable")
                raise IdentityUnavailable("The keys that sign tokens cannot be fetched. Try again.")
            return self._keys.get(key_id)

    def _fetch_soon(self) -> bool:
        """Begin a fetch unless one ended a moment ago; whether one is under way."""
        rest = self.PAUSE_SECONDS if self._has_failed else self.COOLDOWN_SECONDS
        if not self._is_fetching and time.monotonic() - self._ended_at >= rest:
            self._is_fetching = True
            threading.Thread(target=self._fetch, daemon=True, name="key set").start()
        return self._is_fetching

    def _wait(self) -> None:
        if self._waiting >= MOST_WAITING:
            raise IdentityUnavailable("The keys that sign tokens are being fetched. Try again.")
        self._waiting += 1
        self._changed.wait_for(lambda: not self._is_fetching, 2 * self.FETCH_SECONDS)
        self._waiting -= 1

    def _fetch(self) -> None:
        keys: Mapping[str, jwt.PyJWK] = {}
        try:
            keys = read_keys(self._deadline.call(lambda: download(self._url, self.FETCH_SECONDS)))
        except Exception as error:  # noqa: BLE001  # whatever the provider sends, the last good set stays
            log.warning("identity.keys_not_fetched", error=type(error).__name__)
        with self._changed:
            self._ended_at, self._has_failed, self._is_fetching = time.monotonic(), not keys, False
            if keys:
                self._keys, self._fetched_at = keys, self._ended_at
            self._changed.notify_all()


def read_keys(body: bytes) -> Mapping[str, jwt.PyJWK]:
    """The keys of a set that can be used, by id; the others are dropped. Raises ValueError where none is left."""
    entries = json.loads(body)["keys"]
    found: dict[str, jwt.PyJWK] = {}
    broken = Tally[str]()
    for entry in entries[:MOST_KEYS] if isinstance(entries, list) else ():
        try:
            key = jwt.PyJWK(entry)
            usable = _is_usable(key, entry)
        except Exception as error:  # noqa: BLE001  # one bad key must not cost the others
            broken[type(error).__name__] += 1
        else:
            if usable:
                found.setdefault(entry["kid"], key)
    if broken:  # one line for all: 1 MiB has room for half a million
        log.info("identity.keys_dropped", **broken)
    if not found:
        raise ValueError("no key that can be used")
    return found


def _is_usable(key: jwt.PyJWK, entry: Mapping[str, Any]) -> bool:
    named = isinstance(entry.get("kid"), str) and entry["kid"] != ""
    verifies = entry.get("use") in (None, "sig") and "verify" in entry.get("key_ops", ("verify",))
    strong = not isinstance(key.key, RSAPublicKey) or key.key.key_size in RSA_BITS
    return named and verifies and strong and "d" not in entry and key.algorithm_name in ALGORITHMS


def download(url: str, seconds: float) -> bytes:
    """The body at this address. Raises OSError and ValueError; `seconds` is for each step."""
    opener = urllib.request.build_opener(_SafeRedirects)
    try:
        with opener.open(url, timeout=seconds) as answer:
            body: bytes = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as refused:
        refused.close()  # it holds the connection
        raise
    if len(body) > MOST_BYTES:
        raise ValueError("too long")
    return body


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirect to where the keys cannot be replaced on their way."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Raises ValueError for http, unless it is this machine that asks itself."""
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        own = new.scheme == "http" and is_loopback(new.hostname or "") and is_loopback(old.hostname or "")
        if new.scheme != "https" and not own:
            fp.close()
            raise ValueError("a redirect to http")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
