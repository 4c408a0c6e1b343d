"""The checks of /readyz, each with an end: who asks is answered within 2 s, whatever hangs.

A check runs in a thread of its own, and all who ask meanwhile get its answer. While one hangs no other one is begun.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

CHECK_SECONDS = 1.5
Words = Mapping[str, str]


class Check:
    """One check; `hanging` is what is said while it does not end."""

    def __init__(self, name: str, ask: Callable[[], Words], *, hanging: Words) -> None:
        self._ask, self._hanging = ask, hanging
        self._thread = ThreadPoolExecutor(1, name)
        self._guard = threading.Lock()  # of the next one
        self._running: Future[Words] | None = None

    def begin(self) -> Future[Words]:
        """Ask, or join those who wait for an answer."""
        with self._guard:
            if self._running is None or self._running.done():
                self._running = self._thread.submit(self._ask)
            return self._running

    def words(self, running: Future[Words]) -> Words:
        """What it says. Raises what the check raised."""
        try:
            return running.result(CHECK_SECONDS)
        except TimeoutError:
            return self._hanging
