"""The doorbell: a worker that answered a checkout wakes the web request that waits for it.

A push and a blocking pop, kept for a minute, so that ringing first and waiting second works too. It says
only "look at the row now": a lost ring costs the waiter one poll interval, never an answer.
"""

import threading
import time
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import redis
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
T = TypeVar("T")

KEEP_SECONDS = 60  # longer than any wait (20 s), short enough that nothing piles up
POLL_SECONDS = 1.0  # how late a waiter may be when its ring was lost
POLL_ONLY_SECONDS = 0.25  # and while there are no rings
# A bell that did not answer is not asked again for so long: a hung Redis takes up to 2 s to say nothing, and a waiter
# who asks it once more is late by as much.
POLLING_SECONDS = 5.0


class Wakeups(Protocol):
    """Wakes whoever waits for an id."""

    def wake(self, ids: Iterable[str]) -> None:
        """Wake the waiters of these ids, now or when they come."""

    def wait(self, id_: str, seconds: float) -> None:
        """Return when the id was rung, or after that many seconds."""

    def available(self) -> bool:
        """Whether the bell worked when it was last used; nothing is asked."""


def wait_while(pending: Callable[[T], bool], look: Callable[[], T], id_: str, *, wakeups: Wakeups, seconds: float) -> T:
    """Look at once, on every ring and every POLL_SECONDS, until nothing is pending or the time is up. The last look."""
    deadline = time.monotonic() + seconds
    while pending(found := look()):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        wakeups.wait(id_, min(left, POLL_SECONDS))
    return found


class RedisWakeups:
    """The doorbell between processes."""

    def __init__(self, client: "redis.Redis", *, prefix: str = "onelane:bell:") -> None:
        self._client = client
        self._prefix = prefix
        self._polling_until = 0.0

    def wake(self, ids: Iterable[str]) -> None:
        """Push one token for each id, all in one round trip."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for id_ in ids:
                    pipe.rpush(self._prefix + id_, "1")
                    pipe.expire(self._prefix + id_, KEEP_SECONDS)
                pipe.execute()
        except RedisError as error:
            log.warning("wakeups.unavailable", error=type(error).__name__)

    def wait(self, id_: str, seconds: float) -> None:
        """Pop a token, blocking; with Redis down, sleep a moment instead, so that the caller polls."""
        if not self.available():
            POLLING.wait(id_, seconds)
            return
        started = time.monotonic()
        try:
            self._client.blpop([self._prefix + id_], timeout=max(seconds, 0.01))
        except RedisError:
            self._polling_until = time.monotonic() + POLLING_SECONDS
            POLLING.wait(id_, seconds - (time.monotonic() - started))

    def available(self) -> bool:
        """False for DEAF_SECONDS after Redis did not answer."""
        return time.monotonic() >= self._polling_until


class Polling:
    """The twin for who knows that nobody will ring: the row is looked at every DEAF_POLL_SECONDS."""

    def wake(self, ids: Iterable[str]) -> None:
        """Nobody hears it."""

    def wait(self, id_: str, seconds: float) -> None:
        """Sleep a moment."""
        time.sleep(max(0.0, min(seconds, POLL_ONLY_SECONDS)))

    def available(self) -> bool:
        """Never."""
        return False


POLLING = Polling()


class LocalWakeups:
    """The twin for one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._rung: set[str] = set()

    def wake(self, ids: Iterable[str]) -> None:
        """Wake the waiters of this process."""
        with self._changed:
            self._rung.update(ids)
            self._changed.notify_all()

    def wait(self, id_: str, seconds: float) -> None:
        """Wait for a ring."""
        with self._changed:
            self._changed.wait_for(lambda: id_ in self._rung, timeout=seconds)
            self._rung.discard(id_)

    def available(self) -> bool:
        """Always: it is here."""
        return True
