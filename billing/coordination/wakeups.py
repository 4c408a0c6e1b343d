"""Wake-ups: a worker that has answered a checkout or operation wakes the web request that waits for it.

A push and a blocking pop. The token is kept for a minute, so a request may wait after the push, too. It says only
"read the row now": a lost wake-up costs one poll interval, never an answer.
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
POLL_SECONDS = 1.0  # the delay of a request whose wake-up was lost
POLL_ONLY_SECONDS = 0.25  # the interval while no wake-ups can be expected
# 5 s without Redis after it did not answer: each further call to a hung Redis delays its request by up to 2 s.
UNAVAILABLE_SECONDS = 5.0


class Wakeups(Protocol):
    """Wakes the requests that wait for an id."""

    def wake(self, ids: Iterable[str]) -> None:
        """Wake the requests that wait for these ids, or will within KEEP_SECONDS. Never raises."""

    def wait(self, id_: str, seconds: float) -> None:
        """Return when the id was woken, or after that many seconds. Never raises."""

    def available(self) -> bool:
        """Whether wake-ups arrived when last used; no call is made."""


def wait_while(pending: Callable[[T], bool], read: Callable[[], T], id_: str, *, wakeups: Wakeups, seconds: float) -> T:
    """Read now, at each wake-up and every POLL_SECONDS, until `pending` is false or the time is up; the last value."""
    deadline = time.monotonic() + seconds
    while pending(found := read()):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        wakeups.wait(id_, min(left, POLL_SECONDS))
    return found


class RedisWakeups:
    """Wake-ups between processes."""

    def __init__(self, client: "redis.Redis", *, prefix: str = "onelane:wakeup:") -> None:
        self._client = client
        self._prefix = prefix
        self._unavailable_until = 0.0

    def wake(self, ids: Iterable[str]) -> None:
        """Push one token for each id, in one round trip."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for id_ in ids:
                    pipe.rpush(self._prefix + id_, "1")
                    pipe.expire(self._prefix + id_, KEEP_SECONDS)
                pipe.execute()
        except RedisError as error:
            log.warning("wakeups.unavailable", error=type(error).__name__)

    def wait(self, id_: str, seconds: float) -> None:
        """Pop a token, blocking; while Redis is away sleep for a poll interval."""
        if not self.available():
            POLLING.wait(id_, seconds)
            return
        started = time.monotonic()
        try:
            self._client.blpop([self._prefix + id_], timeout=max(seconds, 0.01))
        except RedisError:
            self._unavailable_until = time.monotonic() + UNAVAILABLE_SECONDS
            POLLING.wait(id_, seconds - (time.monotonic() - started))

    def available(self) -> bool:
        """False for UNAVAILABLE_SECONDS after Redis did not answer."""
        return time.monotonic() >= self._unavailable_until


class Polling:
    """The twin for a job that was not queued: no wake-up will come, so the row is read every POLL_ONLY_SECONDS."""

    def wake(self, ids: Iterable[str]) -> None:
        """Do nothing."""

    def wait(self, id_: str, seconds: float) -> None:
        """Sleep for a poll interval."""
        time.sleep(max(0.0, min(seconds, POLL_ONLY_SECONDS)))

    def available(self) -> bool:
        """False."""
        return False


POLLING = Polling()


class LocalWakeups:
    """The twin for one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._woken: set[str] = set()

    def wake(self, ids: Iterable[str]) -> None:
        """Wake the requests of this process."""
        with self._changed:
            self._woken.update(ids)
            self._changed.notify_all()

    def wait(self, id_: str, seconds: float) -> None:
        """Wait for the id."""
        with self._changed:
            self._changed.wait_for(lambda: id_ in self._woken, timeout=seconds)
            self._woken.discard(id_)

    def available(self) -> bool:
        """True."""
        return True
