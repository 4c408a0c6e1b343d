"""Processes that die at a chosen call: a fuse burns a step before and one after each call to Stripe and each commit.

What runs on a fused gateway and a fused database ends with `Crash` when the fuse has burnt down, which nothing
catches. A fuse of n steps for n = 1, 2, 3 ... is a crash at every point there is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


class Crash(BaseException):
    """The process is gone."""


class Fuse:
    """Burns one step at a time; `burnt` says whether it got to its end."""

    def __init__(self, steps: int) -> None:
        self.left = steps
        self.burnt = False

    def step(self) -> None:
        """One step closer; at the end everybody on this fuse is dead."""
        self.left -= 1
        if self.left <= 0:
            self.burnt = True
            raise Crash


class FusedStripe:
    """A gateway on a fuse; side by side means one after the other."""

    def __init__(self, gateway: Any, fuse: Fuse) -> None:
        self._gateway, self._fuse = gateway, fuse

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._gateway, name)
        if name == "now":
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._fuse.step()
            answer = real(*arguments, **options)
            self._fuse.step()
            return answer

        return call

    def in_parallel(self, *calls: Callable[[], Any]) -> list[Any]:
        """The calls are fused already."""
        return [call() for call in calls]


class FusedDatabase:
    """A database on a fuse: dead before a transaction, or after its commit."""

    def __init__(self, database: Any, fuse: Fuse) -> None:
        self._database, self._fuse = database, fuse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    @contextmanager
    def write(self) -> Iterator[Any]:
        """A transaction between two steps."""
        self._fuse.step()
        with self._database.write() as connection:
            yield connection
        self._fuse.step()

    autocommit = write
