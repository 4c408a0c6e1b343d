"""Wake-ups: a worker that has answered a checkout or operation wakes the web request that waits for it.

A process reads all wake-ups over one connection, however many of its requests wait. The last ones are kept, so a
request may begin to wait a moment after. A wake-up says only "read the row now": a lost one costs one poll interval,
never an answer.
"""

import itertools
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

import redis
import structlog
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
T = TypeVar("T")

KEPT = 1000  # wake-ups, in Redis and in a process: those of some seconds under the heaviest load
KEEP_SECONDS = 60  # without a further one; longer than any wait (20 s), short enough that nothing piles up
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


def wait_while(
    pending: Callable[[T], bool],
    read: Callable[[], T],
    id_: str,
    *,
    wakeups: Wakeups,
    seconds: float,
    is_new: bool = False,
) -> T:
    """Read now, at each wake-up and every POLL_SECONDS, until `pending` is false or the time is up; the last value.

    `is_new`: it was recorded a moment ago, so nothing is read before its first wake-up.
    """
    deadline = time.monotonic() + seconds
    if is_new and seconds > 0:
        wakeups.wait(id_, min(seconds, POLL_SECONDS))
    while pending(found := read()):
        left = deadline - time.monotonic()
        if left <= 0:
            break
        wakeups.wait(id_, min(left, POLL_SECONDS))
    return found


class RedisWakeups:
    """Wake-ups between processes: a stream of woken ids, which one thread reads for all requests of this process.

    It reads on from the last entry that it saw. So nothing is lost between two reads, nor while no request waits.
    """

    def __init__(self, client: "redis.Redis", *, prefix: str = "onelane:") -> None:
        self._client = client
        self._stream = f"{prefix}wakeups"
        # Half the time that the server has for an answer, so that silence on purpose is not taken for a hung server.
        answer_seconds = client.connection_pool.connection_kwargs["socket_timeout"]
        self._block_milliseconds = int(min(POLL_SECONDS, answer_seconds / 2) * 1000)
        self._guard = threading.Lock()  # of what follows
        self._waiting: dict[str, list[threading.Event]] = {}
        self._woken: dict[str, None] = {}  # the last ones, for requests that begin to wait a moment later
        self._last = "0-0"
        self._reader: threading.Thread | None = None
        self._unavailable_until = 0.0

    def wake(self, ids: Iterable[str]) -> None:
        """Write the ids to the stream, in one round trip."""
        try:
            with self._client.pipeline(transaction=False) as pipe:
                for id_ in ids:
                    pipe.xadd(self._stream, {"id": id_}, maxlen=KEPT)
                pipe.expire(self._stream, KEEP_SECONDS)
                pipe.execute()
        except RedisError as error:
            log.warning("wakeups.unavailable", error=type(error).__name__)

    def wait(self, id_: str, seconds: float) -> None:
        """Wait until the reader sees the id; while Redis is away sleep for a poll interval."""
        if not self.available():
            POLLING.wait(id_, seconds)
            return
        woken = threading.Event()
        with self._guard:
            if id_ in self._woken:
                del self._woken[id_]
                return
            self._waiting.setdefault(id_, []).append(woken)
            if self._reader is None or not self._reader.is_alive():
                self._reader = threading.Thread(target=self._read, name="wakeups", daemon=True)
                self._reader.start()
        woken.wait(seconds)
        with self._guard:
            left = [one for one in self._waiting.pop(id_, ()) if one is not woken]
            if left:
                self._waiting[id_] = left

    def available(self) -> bool:
        """False for UNAVAILABLE_SECONDS after Redis did not answer."""
        return time.monotonic() >= self._unavailable_until

    def _read(self) -> None:
        while True:
            with self._guard:
                if not self._waiting:
                    self._reader = None
                    return
            try:
                found: Any = self._client.xread({self._stream: self._last}, block=self._block_milliseconds)
            except (RedisError, ValueError) as error:  # ValueError: the client was closed meanwhile
                log.warning("wakeups.unavailable", error=type(error).__name__)
                self._give_up()
                return
            for _, entries in found:
                self._tell(entries)

    def _tell(self, entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> None:
        with self._guard:
            for number, fields in entries:
                id_ = fields[b"id"].decode("utf-8", "replace")
                self._last = number.decode("ascii")
                self._woken[id_] = None
                for one in self._waiting.get(id_, ()):
                    one.set()
            for id_ in list(itertools.islice(self._woken, max(0, len(self._woken) - KEPT))):
                del self._woken[id_]

    def _give_up(self) -> None:
        """Let all who wait look for themselves, for a while."""
        with self._guard:
            self._reader = None
            self._unavailable_until = time.monotonic() + UNAVAILABLE_SECONDS
            for one in itertools.chain.from_iterable(self._waiting.values()):
                one.set()


class Polling:
    """The twin for a job that was not queued: no wake-up will come, so the row is read every POLL_ONLY_SECONDS."""

    def wake(self, ids: Iterable[str]) -> None:
        """Do nothing."""

    def wait(self, id_: str, seconds: float) -> None:
        time.sleep(max(0.0, min(seconds, POLL_ONLY_SECONDS)))

    def available(self) -> bool:
        return False


POLLING = Polling()


class LocalWakeups:
    """The twin for one process."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._woken: set[str] = set()

    def wake(self, ids: Iterable[str]) -> None:
        with self._changed:
            self._woken.update(ids)
            self._changed.notify_all()

    def wait(self, id_: str, seconds: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: id_ in self._woken, timeout=seconds)
            self._woken.discard(id_)

    def available(self) -> bool:
        return True
