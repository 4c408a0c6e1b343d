"""The checks of /readyz, each with an end: who asks is answered within 2 s, whatever hangs.

A check runs in a thread of its own, and all who ask meanwhile, or within a second of its end, get its answer. While
one hangs no other one is begun. So it costs the same however often strangers ask (API-92).
"""

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

CHECK_SECONDS = 1.5
REMEMBERED_SECONDS = 1.0
Words = Mapping[str, str]


class Check:
    """One check; `hanging` is what is said while it does not end."""

    def __init__(self, name: str, ask: Callable[[], Words], *, hanging: Words) -> None:
        self._ask, self._hanging = ask, hanging
        self._thread = ThreadPoolExecutor(1, name)
        self._guard = threading.Lock()  # of the next one
        self._running: Future[Words] | None = None
        self._ended_at = 0.0

    def begin(self) -> Future[Words]:
        """Ask, or join those who wait for an answer."""
        with self._guard:
            is_old = time.monotonic() - self._ended_at >= REMEMBERED_SECONDS
            if self._running is None or (self._running.done() and is_old):
                self._running = self._thread.submit(self._answer)
            return self._running

    def _answer(self) -> Words:
        try:
            return self._ask()
        finally:
            self._ended_at = time.monotonic()

    def words(self, running: Future[Words], *, until: float) -> Words:
        """What it says by then, a time of the monotonic clock. Raises what the check raised."""
        try:
            return running.result(max(0.0, until - time.monotonic()))
        except TimeoutError:
            return self._hanging
