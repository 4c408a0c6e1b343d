"""Limits: how often a user may ask, and how many requests may wait at once.

Rates are counted in Redis for all processes together; with Redis down each process counts for itself
(API-31). A waiting request holds a thread, so only so many may wait; the others get their 202 at once.
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import MemoryStorage, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from app.errors import RateLimited

log = structlog.get_logger(__name__)

# 0.5 s: a Redis that takes longer to count is treated as down, for PAUSE_SECONDS.
TIMEOUT_SECONDS = 0.5
PAUSE_SECONDS = 5.0


class RateLimit:
    """One rate, such as 30/minute, for each user."""

    def __init__(self, name: str, rate: str, *, storage_uri: str) -> None:
        self._name = name
        self._rate: RateLimitItem = parse(rate)
        self._shared = MovingWindowRateLimiter(_storage(storage_uri))
        self._local = MovingWindowRateLimiter(MemoryStorage())
        self._paused_until = 0.0

    def take(self, who: str) -> None:
        """Count one request. Raises RateLimited with the seconds until the next one may come."""
        if time.monotonic() >= self._paused_until:
            try:
                return self._take(self._shared, who)
            except StorageError:
                self._paused_until = time.monotonic() + PAUSE_SECONDS
                log.warning("rate_limit.storage_unavailable", limit=self._name)
        return self._take(self._local, who)

    def _take(self, limiter: MovingWindowRateLimiter, who: str) -> None:
        if limiter.hit(self._rate, self._name, who):
            return
        left = limiter.get_window_stats(self._rate, self._name, who).reset_time - time.time()
        raise RateLimited(max(1, math.ceil(left)))


class Waiters:
    """At most so many requests wait at once in this process."""

    def __init__(self, most: int) -> None:
        self._free = threading.BoundedSemaphore(most)

    @contextmanager
    def seat(self, seconds: float) -> Iterator[float]:
        """Give the seconds that this request may wait: what it asked for, or 0 when all seats are taken."""
        if seconds <= 0 or not self._free.acquire(blocking=False):
            yield 0.0
            return
        try:
            yield seconds
        finally:
            self._free.release()


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
