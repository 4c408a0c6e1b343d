"""A semaphore for the requests that wait for a worker, with a share for each user."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

# Of the 160 threads of a process so many may wait for a worker: the rest stays for everybody else.
MOST_WAITERS = 110
WAITERS_OF_ONE = 80


class Semaphore:
    """At most `most` requests of this process at once, at most `share` of them one user's. Nobody waits to get in."""

    def __init__(self, most: int, *, share: int) -> None:
        self._most, self._share = most, share
        self._held: Counter[str] = Counter()  # by user
        self._guard = threading.Lock()

    def acquire(self, user_id: str) -> bool:
        """Take a place until `release`; False when none is free, or when the user has their share."""
        with self._guard:
            free = self._held.total() < self._most and self._held[user_id] < self._share
            self._held[user_id] += free
            return free

    def release(self, user_id: str) -> None:
        with self._guard:
            self._held[user_id] -= 1
            self._held += Counter()  # without those that hold none

    @contextmanager
    def place(self, user_id: str) -> Iterator[bool]:
        """Acquire for the block; whether there was a place."""
        acquired = self.acquire(user_id)
        try:
            yield acquired
        finally:
            if acquired:
                self.release(user_id)
