"""The sandbox's own time: another clock (the wall's by default) plus an offset that the control plane moves."""

import time
from collections.abc import Callable


class Clock:
    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self.offset = 0.0

    def now(self) -> float:
        return self._source() + self.offset

    def advance(self, seconds: float) -> None:
        self.offset += seconds

    def set(self, now: float) -> None:
        self.offset = now - self._source()
