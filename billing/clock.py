"""The time, always aware UTC. It is handed in, so that tests can move it."""

import time
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The source of the time for every flow."""

    def now(self) -> datetime:
        """Give the current time, aware, in UTC."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()


def time_is_up(seconds: float) -> Callable[[], bool]:
    """A function: have so many seconds passed since this call? By the monotonic clock."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def add_months(moment: datetime, months: int) -> datetime:
    """So many calendar months later; on the last day of a shorter month: January 31 and one is February 28."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a Z, without a fraction where there is none; None for None."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
