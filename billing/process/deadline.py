"""One deadline for a call over a network: names, connections, a slow head and a slow body together (API-15, NTF-20).

Libraries bound each step by itself, so that a peer that sends a byte now and then holds its caller for ever. Here the
call has a thread of its own, and is given up when its time is over. A thread that was given up ends with its
connection; at most `most` of them are there, and beyond that nothing is called.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


class Deadline:
    """Calls of one kind, each of which has so many seconds in all."""

    def __init__(self, seconds: float, *, most: int) -> None:
        self.seconds = seconds
        self._free = threading.BoundedSemaphore(most)

    def call(self, function: Callable[[], Result]) -> Result:
        """What the function gives or raises. Raises TimeoutError when its time is over, or too many never ended."""
        if not self._free.acquire(blocking=False):
            raise TimeoutError("too many earlier calls have not ended")
        future: Future[Result] = Future()

        def run() -> None:
            try:
                future.set_result(function())
            except BaseException as error:  # noqa: BLE001  # it is raised where the result is asked for
                future.set_exception(error)
            finally:
                self._free.release()

        # A daemon: one that was given up must not hold the end of the process.
        threading.Thread(target=run, daemon=True, name="deadline").start()
        return future.result(self.seconds)
