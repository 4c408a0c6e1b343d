"""The customer lock: one worker at a time on a lane. A hint, never the truth (LAN-1).

SET NX PX with a token, a heartbeat at a third of its lifetime, release by token only (all redis-py's).
It saves Stripe calls and calms retry storms; what makes a lapsed lock harmless is the lane row.
"""

import random
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import redis
import structlog
from redis.exceptions import LockError, RedisError

log = structlog.get_logger(__name__)


def lock_name(lane_id: int | None, customer_id: str = "") -> str:
    """The lock of a lane; of the customer alone where the ledger has no lane of theirs."""
    return f"lane:{lane_id}" if lane_id else f"customer:{customer_id}"


def lane_of(name: str) -> int | None:
    """The lane whose lock has this name; None for a customer's."""
    kind, _, id_ = name.partition(":")
    return int(id_) if kind == "lane" and id_.isdecimal() else None


def retry_seconds() -> float:
    """When to ask again for a lock that is taken, by chance: most are given back in a moment."""
    return random.uniform(0.1, 0.4)  # noqa: S311  # jitter


class Lease:
    """A held lock, or with Redis down the permission to go on without one."""

    def __init__(self) -> None:
        self._lost = threading.Event()

    @property
    def lapsed(self) -> bool:
        """Whether somebody else may hold the lock by now."""
        return self._lost.is_set()

    def lose(self) -> None:
        self._lost.set()


class Locks(Protocol):
    """Where flows get the customer lock."""

    def hold(self, name: str) -> AbstractContextManager[Lease | None]:
        """Hold the lock for the block; yields None when another holder did not let go in time."""

    def held(self) -> dict[str, float] | None:
        """The names of the locks that are held, each with the seconds until it lapses; None when nobody can say."""


class RedisLocks:
    # 0.05 s: enough for a holder that is just releasing, too short to occupy a worker slot.
    WAIT_SECONDS = 0.05

    def __init__(self, client: "redis.Redis", *, lifetime_seconds: float, prefix: str = "onelane:lock:") -> None:
        self._client = client
        self._lifetime = lifetime_seconds
        self._prefix = prefix

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        """With Redis down, go on: the row decides."""
        lock = self._client.lock(
            self._prefix + name,
            timeout=self._lifetime,
            sleep=0.01,
            blocking_timeout=self.WAIT_SECONDS,
            thread_local=False,
        )
        lease = Lease()
        try:
            taken = lock.acquire()
        except RedisError as error:
            log.warning("lock.unavailable", lock=name, error=type(error).__name__)
            yield lease
            return
        if not taken:
            yield None
            return
        done = threading.Event()
        heart = threading.Thread(target=self._beat, args=(lock, lease, done), name=f"lock-{name}", daemon=True)
        heart.start()
        try:
            yield lease
        finally:
            done.set()
            heart.join()
            try:
                lock.release()
            except LockError:
                log.warning("lock.lapsed", lock=name)  # ours no longer: never delete a successor's lock
            except RedisError as error:
                log.warning("lock.unavailable", lock=name, error=type(error).__name__)

    def held(self) -> dict[str, float] | None:
        found: dict[str, float] = {}
        try:
            for key in self._client.scan_iter(match=f"{self._prefix}*", count=1000):
                left = self._client.pttl(key)
                if left > 0:
                    found[key.decode("utf-8", "replace").removeprefix(self._prefix)] = left / 1000
        except RedisError:
            return None
        return found

    def _beat(self, lock: "redis.lock.Lock", lease: Lease, done: threading.Event) -> None:
        """Renew until done; say so when the lock is no longer ours."""
        while not done.wait(self._lifetime / 3):
            try:
                lock.reacquire()
            except LockError:
                lease.lose()
                return
            except RedisError:
                continue  # the next beat may get through; two missed beats and the lock lapses by itself


class LocalLocks:
    """The twin for one process: threads of this process exclude each other."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: set[str] = set()

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        with self._guard:
            free = name not in self._held
            self._held.add(name)
        if not free:
            yield None
            return
        try:
            yield Lease()
        finally:
            with self._guard:
                self._held.discard(name)

    def held(self) -> dict[str, float] | None:
        with self._guard:
            return dict.fromkeys(self._held, 0.0)
