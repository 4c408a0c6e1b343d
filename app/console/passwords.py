"""The console's passwords: known by keys that argon2 makes of them, and tried no faster than an address may.

A wrong password makes its address wait: not after the first three, then a second, and twice as long each time, up to a
quarter of an hour. Nobody is kept waiting in a thread: who comes too early is answered 429 at once, unchecked.
"""

import hmac
import threading
from collections import OrderedDict
from collections.abc import Sequence
from datetime import datetime, timedelta

from argon2.low_level import Type, hash_secret_raw

from app.errors.problems import RateLimited
from app.limits.rates import RateLimit
from billing.clock import Clock
from billing.errors import Busy
from billing.rules.backoff import Backoff

# OWASP's least for argon2id: 19 MiB and two passes, some 20 ms. A web has 180 MiB in all (OPS-62).
MEMORY_KIB, PASSES = 19 * 1024, 2
SALT = b"onelane console"  # the same in every web, since the keys are. They are in memory only
AT_ONCE = 2  # passwords that a process looks at at the same time; who comes third is told to try again
FREE_TRIES = 3  # people mistype
WAITS = Backoff(timedelta(seconds=1), timedelta(minutes=15))
MOST_ADDRESSES = 10_000  # remembered at a time; the one that tried longest ago is forgotten first


def derive_key(password: str) -> bytes:
    """The key of a password: 32 bytes, the same in every process."""
    return hash_secret_raw(password.encode(), SALT, PASSES, MEMORY_KIB, parallelism=1, hash_len=32, type=Type.ID)


class Passwords:
    """Checks passwords. `rate` counts all tries of an address, in all webs together."""

    def __init__(self, keys: Sequence[bytes], *, rate: RateLimit, clock: Clock) -> None:
        self._keys, self._rate, self._waits = keys, rate, _Waits(clock)
        self._places = threading.Semaphore(AT_ONCE)

    def check(self, given: str, address: str) -> bytes | None:
        """The key of the password, or None where it is none of ours. Raises RateLimited and Busy."""
        self._rate.take(address)
        self._waits.note_try(address)
        if not self._places.acquire(blocking=False):
            raise Busy("Others are logging in just now. Try again.")
        try:
            made = derive_key(given)
        finally:
            self._places.release()
        found = [key for key in self._keys if hmac.compare_digest(made, key)]  # all of them, each time
        if found:
            self._waits.forget(address)
        return found[0] if found else None


class _Waits:
    """How long each address has to wait, in this process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tried: OrderedDict[str, tuple[int, datetime]] = OrderedDict()  # how often, and when it may again
        self._guard = threading.Lock()

    def note_try(self, address: str) -> None:
        """Note a try before its password is looked at, so that a hundred at once are not one. Raises RateLimited."""
        with self._guard:
            now = self._clock.now()
            tries, due_at = self._tried.get(address, (0, now))
            if left := WAITS.seconds_left(due_at, now=now):
                raise RateLimited(int(left) + 1, {})
            more = tries + 1 - FREE_TRIES
            wait = WAITS.wait_seconds(more) if more >= 0 else 0.0
            self._tried[address] = tries + 1, now + timedelta(seconds=wait)
            self._tried.move_to_end(address)
            while len(self._tried) > MOST_ADDRESSES:
                self._tried.popitem(last=False)

    def forget(self, address: str) -> None:
        with self._guard:
            self._tried.pop(address, None)
