"""A rate for each key, counted in Redis for all processes together, and in this process before that."""

import math
import threading
import time
from collections import deque
from contextlib import suppress

import redis
import structlog
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage
from limits.strategies import MovingWindowRateLimiter

from app.errors.problems import RateLimited
from billing.process.settings import KEY_PREFIX

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 5.0  # in which a Redis that did not answer is not asked
MOST_KEYS = 10_000  # users or addresses that one process remembers before it forgets those whose window is over


class RateLimit:
    """One rate, such as 30/minute, for each user or address: so many in any minute, not in each minute of the clock."""

    def __init__(self, name: str, rate: str, *, storage: RedisStorage | None) -> None:  # None: in this process alone
        self._name = name
        self._rate: RateLimitItem = parse(rate)
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
        with self._guard, suppress(KeyError, ValueError):  # it may be over by now
            self._taken[key].remove(taken_at)

    def seconds_left(self, key: str) -> float:
        with self._guard:
            times = self._taken.get(key)
            return times[0] + self._seconds - time.monotonic() if times else 0.0

    def _prune(self, now: float) -> None:
        # Who has not come for a whole window; all of them are looked through only now and then.
        self._taken = {key: times for key, times in self._taken.items() if times and times[-1] > now - self._seconds}
        self._prune_beyond = max(MOST_KEYS, 2 * len(self._taken))


def shared_storage(client: "redis.Redis | None", prefix: str = KEY_PREFIX) -> RedisStorage | None:
    """Where all processes count together, over this process' connections; None where each counts for itself."""
    if client is None:
        return None
    # The pool is what it uses; the address says only that it is Redis.
    pool = client.connection_pool
    return RedisStorage("redis://", connection_pool=pool, key_prefix=f"{prefix}limit", wrap_exceptions=True)
