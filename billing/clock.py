"""The time, handed in so that tests can move it. Always aware UTC."""

import time
from calendar import monthrange
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What flows ask for the time."""

    def now(self) -> datetime:
        """Give the current time, aware, in UTC."""


class SystemClock:
    """This machine's clock."""

    def now(self) -> datetime:
        """Give the current time, aware, in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK = SystemClock()


def time_is_up(seconds: float) -> Callable[[], bool]:
    """Whether so many seconds have passed since this call, whatever becomes of the clock."""
    deadline = time.monotonic() + seconds
    return lambda: time.monotonic() >= deadline


def add_months(moment: datetime, months: int) -> datetime:
    """So many calendar months later, on the month's last day where it is shorter: January 31 and one is February 28."""
    year, month = divmod(moment.year * 12 + moment.month - 1 + months, 12)
    return moment.replace(year=year, month=month + 1, day=min(moment.day, monthrange(year, month + 1)[1]))


def iso(moment: datetime | None) -> str | None:
    """ISO 8601 in UTC with a Z, to the second where that is all there is."""
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
