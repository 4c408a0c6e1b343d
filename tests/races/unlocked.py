"""A customer lock that everybody gets: what is left of one after a failover, a flush or a long pause."""

from collections.abc import Iterator
from contextlib import contextmanager

from billing.coordination.locks import Lease


class NoLocks:
    """Never says no, never excludes anybody."""

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        """Go ahead."""
        yield Lease()

    def held(self) -> dict[str, float] | None:
        return {}


class LapsedLocks(NoLocks):
    """Everybody gets it, and has lost it before the first step."""

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        """Too late."""
        lease = Lease()
        lease.lose()
        yield lease
