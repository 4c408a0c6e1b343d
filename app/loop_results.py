"""Results of other threads' futures on the event loop: those that come together wake it once.

`asyncio.wrap_future` wakes the loop for each, and takes 12 µs; a commit resolves some thirty at one instant.
"""

import asyncio
import threading
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")
_Waiting = tuple[asyncio.Future[None], asyncio.AbstractEventLoop]


class Results:
    """What one event loop waits for."""

    def __init__(self) -> None:
        self._guard = threading.Lock()  # of the next one, held for a moment
        self._done: list[asyncio.Future[None]] = []

    async def of(self, future: "Future[T]") -> T:
        """The future's result, or its error. Who stops waiting cancels it, unless it runs."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(partial(self._note, loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise
        return future.result()

    def _note(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None], _future: "Future[Any]") -> None:
        """In whichever thread resolved it."""
        with self._guard:
            first = not self._done
            self._done.append(waiter)
        if first:
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._guard:
            done, self._done = self._done, []
        for waiter in done:
            if not waiter.done():
                waiter.set_result(None)
