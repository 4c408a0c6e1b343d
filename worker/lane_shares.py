"""Threads for buyers who come for the first time: those who came in this minute have half of them together (LAN-60).

A pass waits for Stripe's budget with its thread. Without a share, a few buyers who change their mind as often as they
may would hold every thread, and a first checkout would wait in the queue, however early its turn at Stripe is.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

MINUTE = 60.0
BACK_SECONDS = 0.5  # until a lane without a place is tried again; about what a pass takes
MOST_LANES = 10_000  # remembered, before those that have not come for a minute are forgotten


class LaneShares:
    """The places of one process."""

    def __init__(self, threads: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._free = max(1, threads // 2)
        self._clock = clock
        self._came: dict[int, float] = {}  # when each lane's last pass began
        self._guard = threading.Lock()

    @contextmanager
    def place(self, lane_id: int) -> Iterator[bool]:
        """Whether this lane may be worked now. One that did not come in this minute always may."""
        with self._guard:
            now = self._clock()
            came_again = now - self._came.get(lane_id, float("-inf")) < MINUTE
            has_place = not came_again or self._free > 0
            if has_place:
                self._free -= came_again
                self._came[lane_id] = now
            if len(self._came) > MOST_LANES:
                self._came = {lane: at for lane, at in self._came.items() if now - at < MINUTE}
        try:
            yield has_place
        finally:
            with self._guard:
                self._free += has_place and came_again
