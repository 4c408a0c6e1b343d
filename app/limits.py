"""Limits, in the order in which a request of a buyer meets them; only the first two refuse, both with one 429.

1. A rate per client address, before the credential is looked at, which slows down guessing at tokens (API-39).
2. A rate per user, before the body is read (API-30). A server key speaks for many users: each of them has their own.
3. A semaphore for the requests that wait for a worker, each of which holds a thread, with a share per user (API-22).

Rates are counted in Redis for all processes together. While Redis is down each process counts on for itself (API-31).
"""

import math
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TypeVar

import structlog
from flask import Flask, Request, request
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import Storage, storage_from_string
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
MOST_KEYS = 10_000  # users or addresses that one process remembers before it forgets those whose window is over
# Of the 160 threads of a process so many may wait for a worker: the rest stays for everybody else.
MOST_WAITERS = 110
WAITERS_OF_ONE = 80
# One subscriber's line has a whole /64; counted by the address, a client would have 2**64 allowances.
IPV6_PREFIX = 64


class RateLimit:
    """One rate, such as 30/minute, for each user or address: so many in any minute, not in each minute of the clock."""

    def __init__(self, name: str, rate: str, *, storage_uri: str) -> None:
        """`storage_uri`: a Redis, or `memory://` to count in this process alone."""
        self._name = name
        self._rate: RateLimitItem = parse(rate)
        storage = None if storage_uri.startswith("memory://") else _storage(storage_uri)
        self._shared = MovingWindowRateLimiter(storage) if storage else None
        self._own = _Window(self._rate.amount, self._rate.get_expiry())
        self._paused_until = 0.0

    def take(self, key: str) -> None:
        """Count one request. Raises RateLimited with the seconds until the next one may come.

        This process' own count comes first. What it refuses costs no round trip, and it is right when Redis is lost.
        """
        taken_at = self._own.take(key)
        if taken_at is None:
            raise self._refusal(self._own.seconds_left(key))
        if self._shared and taken_at >= self._paused_until:
            try:
                if not self._shared.hit(self._rate, self._name, key):
                    self._own.give_back(key, taken_at)
                    reset_at = self._shared.get_window_stats(self._rate, self._name, key).reset_time
                    raise self._refusal(reset_at - time.time())
            except StorageError:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("rate_limit.storage_unavailable", limit=self._name)

    def _refusal(self, seconds_left: float) -> RateLimited:
        seconds = max(1, math.ceil(seconds_left))
        # draft-ietf-httpapi-ratelimit-headers: the quota and its window in seconds; what is left, and until when.
        policy = f'"{self._name}";q={self._rate.amount};w={self._rate.get_expiry()}'
        return RateLimited(seconds, {"RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r=0;t={seconds}'})


class _Window:
    """When each key was taken in the last `seconds`, at most `amount` times, in this process."""

    def __init__(self, amount: int, seconds: float) -> None:
        self._amount, self._seconds = amount, seconds
        self._taken: dict[str, deque[float]] = {}
        self._prune_beyond = MOST_KEYS
        self._guard = threading.Lock()

    def take(self, key: str) -> float | None:
        """Take one: when it was taken, or None if all are taken."""
        with self._guard:
            now = time.monotonic()
            times = self._taken.setdefault(key, deque())
            while times and times[0] <= now - self._seconds:
                times.popleft()
            if len(times) >= self._amount:
                return None
            times.append(now)
            if len(self._taken) > self._prune_beyond:
                self._prune(now)
            return now

    def give_back(self, key: str, taken_at: float) -> None:
        """Undo a take."""
        with self._guard, suppress(KeyError, ValueError):  # it may be over by now
            self._taken[key].remove(taken_at)

    def seconds_left(self, key: str) -> float:
        """How long until one may be taken again."""
        with self._guard:
            times = self._taken.get(key)
            return times[0] + self._seconds - time.monotonic() if times else 0.0

    def _prune(self, now: float) -> None:
        """Forget who has not come for a whole window; for all of them only now and then."""
        self._taken = {key: times for key, times in self._taken.items() if times and times[-1] > now - self._seconds}
        self._prune_beyond = max(MOST_KEYS, 2 * len(self._taken))


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
    if uri.startswith("unix://"):
        uri = f"redis+{uri}"
    return storage_from_string(  # type: ignore[return-value]  # an async one only for async+ addresses
        uri,
        wrap_exceptions=True,
        key_prefix="onelane:limit",
        socket_connect_timeout=TIMEOUT_SECONDS,
        socket_timeout=TIMEOUT_SECONDS,
    )
