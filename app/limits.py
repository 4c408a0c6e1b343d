"""Limits, in the order in which a request of a buyer meets them; only the first two refuse, both with one 429.

1. A rate per client address, before the credential is looked at, which slows down guessing at tokens (API-39).
2. A rate per user, before the body is read (API-30). A server key speaks for many users: each of them has their own.
3. A semaphore for the requests that wait for a worker, each of which holds a thread, with a share per user (API-22).

Rates are counted in Redis for all processes together. While Redis is down each process counts for itself (API-31).
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar

import structlog
from flask import Flask, Request, request
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from app.auth import Caller, Identity
from app.bodies import Body, Reader, read_body
from app.errors import RateLimited
from app.schemas import ServerBody
from billing.settings import Settings

log = structlog.get_logger(__name__)
Named = TypeVar("Named", bound=ServerBody)

# 0.5 s: a Redis that takes longer to count is treated as down, for PAUSE_SECONDS.
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5.0
# Of the 160 threads of a process so many may wait for a worker: the rest stays for everybody else.
MOST_WAITERS = 110
WAITERS_OF_ONE = 80
# One subscriber's line has a whole /64; counted by the address, a client would have 2**64 allowances.
IPV6_PREFIX = 64


class RateLimit:
    """One rate, such as 30/minute, for each user or address."""

    def __init__(self, name: str, rate: str, *, storage_uri: str) -> None:
        self._name = name
        self._rate: RateLimitItem = parse(rate)
        self._shared = MovingWindowRateLimiter(_storage(storage_uri))
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._paused_until = 0.0

    def take(self, key: str) -> None:
        """Count one request. Raises RateLimited with the seconds until the next one may come."""
        if time.monotonic() >= self._paused_until:
            try:
                return self._take(self._shared, key)
            except StorageError:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("rate_limit.storage_unavailable", limit=self._name)
        return self._take(self._local, key)

    def _take(self, limiter: MovingWindowRateLimiter, key: str) -> None:
        if limiter.hit(self._rate, self._name, key):
            return
        left = limiter.get_window_stats(self._rate, self._name, key).reset_time - time.time()
        seconds = max(1, math.ceil(left))
        # draft-ietf-httpapi-ratelimit-headers: the quota and its window in seconds; what is left, and until when.
        policy = f'"{self._name}";q={self._rate.amount};w={self._rate.get_expiry()}'
        raise RateLimited(seconds, {"RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r=0;t={seconds}'})


class Semaphore:
    """At most `most` requests of this process at once, at most `share` of them one user's. Nobody waits to get in."""

    def __init__(self, most: int, *, share: int) -> None:
        self._most, self._share = most, share
        self._held: dict[str, int] = {}  # by user; without zeros
        self._count = 0
        self._guard = threading.Lock()

    def acquire(self, user_id: str) -> bool:
        """Take a place until `release`; False when none is free, or when the user has their share."""
        with self._guard:
            held = self._held.get(user_id, 0)
            if self._count >= self._most or held >= self._share:
                return False
            self._held[user_id] = held + 1
            self._count += 1
            return True

    def release(self, user_id: str) -> None:
        """Give a place of this user's back."""
        with self._guard:
            self._count -= 1
            self._held[user_id] -= 1
            if not self._held[user_id]:
                del self._held[user_id]

    @contextmanager
    def place(self, user_id: str) -> Iterator[bool]:
        """Acquire for the block; whether there was a place."""
        acquired = self.acquire(user_id)
        try:
            yield acquired
        finally:
            if acquired:
                self.release(user_id)


class Seats:
    """At most so many deliveries' bodies are read at once. For `app.deliveries` alone, and gone with it."""

    def __init__(self, most: int) -> None:
        self._free = threading.Semaphore(most)

    def sit(self, patience_seconds: float = 0.0) -> bool:
        """Take a seat until `rise`; whether there was one."""
        return self._free.acquire(timeout=patience_seconds)

    def rise(self) -> None:
        """Give the seat back."""
        self._free.release()


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one process, built once."""

    addresses: RateLimit
    checkouts: RateLimit
    operations: RateLimit
    reads: RateLimit
    waiters: Semaphore


def build_limits(settings: Settings, *, storage_uri: str | None = None, waiters: Semaphore | None = None) -> Limits:
    """The limits that the settings name, counted in REDIS_URL unless told otherwise."""

    def rate(name: str, allowed: str) -> RateLimit:
        return RateLimit(name, allowed, storage_uri=storage_uri or settings.redis_url)

    return Limits(
        addresses=rate("addresses", settings.rate_limit_addresses),
        checkouts=rate("checkouts", settings.rate_limit_checkouts),
        operations=rate("operations", settings.rate_limit_checkouts),
        reads=rate("reads", settings.rate_limit_reads),
        waiters=waiters or Semaphore(MOST_WAITERS, share=WAITERS_OF_ONE),
    )


def limit_addresses(app: Flask, *, identity: Identity, rate: RateLimit) -> None:
    """Count each request under /v1 by where it came from. X-Forwarded-For counts as far as TRUSTED_PROXIES says.

    The application's own servers speak for many users and are not counted; the public plans are not either.
    """

    @app.before_request
    def count() -> None:
        rule = request.url_rule.rule if request.url_rule else ""
        if not rule.startswith("/v1/") or rule == "/v1/plans" or request.method == "OPTIONS":
            return
        if not identity.is_server_key(request.headers.get("Authorization", "")):
            rate.take(counted_as(request.remote_addr or ""))


def read_counted(
    caller: Caller,
    request: Request,
    model: type[Body],
    named: type[Named],
    *,
    rate: RateLimit,
    read: Reader = read_body,
) -> tuple[str, Body | Named]:
    """Count the user, and read the body as `model`, or as `named` where the body of a server names the user.

    A buyer is counted before the body is looked at, a server's user once they are named.
    """
    if caller.user_id is not None:
        rate.take(caller.user_id)
        return caller.user_id, read(request, model)
    body = read(request, named)
    rate.take(body.user_id)
    return body.user_id, body


def counted_as(address: str) -> str:
    """The name under which a client address is counted: IPv4 whole, IPv6 by its /64."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return "unknown"  # a socket without an address, or nonsense from a proxy: they share one allowance
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    if parsed.ipv4_mapped:
        return str(parsed.ipv4_mapped)
    return str(ip_network((parsed, IPV6_PREFIX), strict=False))


def _storage(uri: str) -> Storage:
    if uri.startswith("memory://"):
        return MemoryStorage()
    if uri.startswith("unix://"):
        uri = f"redis+{uri}"
    return storage_from_string(  # type: ignore[return-value]  # an async one only for async+ addresses
        uri,
        wrap_exceptions=True,
        key_prefix="onelane:limit",
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
    )
