"""Limits: how often a user may ask, how many requests may hold a thread, and how much of it all is one caller's.

Rates are counted in Redis for all processes together; with Redis down each process counts for itself
(API-31). Waiting and reading a slow body hold a thread, so each has so many seats (API-22, API-36). One caller
gets a share of threads, seats and work only, so that a storm of theirs does not slow down the others (API-38).
"""

import math
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import Empty, SimpleQueue
from typing import Any

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
TURN = "onelane.turn"  # in the WSGI environment of a request that has its caller's turn


class RateLimit:
    """One rate, such as 30/minute, for each user or address."""

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
        seconds = max(1, math.ceil(left))
        # draft-ietf-httpapi-ratelimit-headers: the quota and its window in seconds; what is left, and until when.
        policy = f'"{self._name}";q={self._rate.amount};w={self._rate.get_expiry()}'
        raise RateLimited(seconds, {"RateLimit-Policy": policy, "RateLimit": f'"{self._name}";r=0;t={seconds}'})


class Share:
    """So many at once for each caller, in this process."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: dict[str, int] = {}
        self._guard = threading.Lock()

    @contextmanager
    def take(self, who: str) -> Iterator[bool]:
        """Take one for the block; False when this caller has as many as they may."""
        with self._guard:
            taken = self._held.get(who, 0) < self._most
            if taken:
                self._held[who] = self._held.get(who, 0) + 1
        try:
            yield taken
        finally:
            if taken:
                with self._guard:
                    self._held[who] -= 1
                    if not self._held[who]:
                        del self._held[who]


class Turn:
    """One's turn, to be had by one of a caller's requests at a time; who waits for something else steps aside."""

    def __init__(self, line: threading.Semaphore) -> None:
        self._line = line

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Let the next one in for the block, and stand in line again after it."""
        self._line.release()
        try:
            yield
        finally:
            self._line.acquire()


class Turns:
    """So many of each caller's requests are worked on at once; their further ones stand in line, one thread each."""

    def __init__(self, at_once: int) -> None:
        self._at_once = at_once
        self._lines: dict[str, tuple[threading.Semaphore, int]] = {}  # with how many stand in it or are at work
        self._guard = threading.Lock()

    @contextmanager
    def take(self, who: str) -> Iterator[Turn]:
        """Wait for one's turn, and have it for the block."""
        with self._guard:
            line, count = self._lines.get(who) or (threading.Semaphore(self._at_once), 0)
            self._lines[who] = (line, count + 1)
        try:
            with line:
                yield Turn(line)
        finally:
            with self._guard:
                line, count = self._lines.pop(who)
                if count > 1:
                    self._lines[who] = (line, count - 1)


def aside(environ: dict[str, Any]) -> AbstractContextManager[None]:
    """For the block in which this request waits for somebody else: its caller's next one is worked on meanwhile."""
    turn: Turn | None = environ.get(TURN)
    return turn.aside() if turn else nullcontext()


class Seats:
    """At most so many requests at once, in this process, may do what holds a thread for long."""

    def __init__(self, most: int, *, of_one: int | None = None) -> None:
        # A queue of tokens: the only thing of the library's to wait for with a deadline that is not written in Python.
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(most):
            self._free.put(None)
        self._shares = None if of_one is None else Share(of_one)

    @contextmanager
    def take(self, who: str = "", *, patience_seconds: float = 0.0) -> Iterator[bool]:
        """Take a seat for the block; False when all of them stayed taken, or this caller has their share of them."""
        if self._shares is None:
            with self._seat(patience_seconds) as taken:
                yield taken
            return
        with self._shares.take(who) as allowed:
            if not allowed:
                yield False
                return
            with self._seat(patience_seconds) as taken:
                yield taken

    @contextmanager
    def _seat(self, patience_seconds: float) -> Iterator[bool]:
        taken = self.sit(patience_seconds)
        try:
            yield taken
        finally:
            if taken:
                self.rise()

    def sit(self, patience_seconds: float = 0.0) -> bool:
        """Take a seat until `rise`, whoever it is; whether there was one. For where a block costs too much."""
        try:
            self._free.get(block=patience_seconds > 0, timeout=patience_seconds or None)
        except Empty:
            return False
        return True

    def rise(self) -> None:
        """Give the seat back."""
        self._free.put(None)


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
