"""When work that failed is tried again, and whether that time has come: in Python, and in SQL.

The wait doubles with each failure in a row, up to a longest one. Half of it is by chance, so that a thousand rows do
not come back as one. A row keeps the time of its next attempt. A time later than now and the longest wait was written
by a clock that is ahead. It counts as due, and delays nothing (OPS-71).
"""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.errors import StripeBusy, StripeUnclear

# 5 s: while Stripe asks all of us to slow down, the pace of requests slows down, so the waits need not grow, too.
BUSY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """The waits of one kind of work: the first one, doubled for each failure before, up to the longest."""

    first: timedelta
    longest: timedelta

    def wait_seconds(self, failures: int, error: Exception | None = None) -> float:
        """Seconds until the next attempt after so many earlier failures, never less than Stripe's Retry-After."""
        most = self.longest.total_seconds()
        doubled = min(self.first.total_seconds() * 2.0 ** min(failures, 30), most)
        if not is_failure(error):
            doubled = min(doubled, BUSY_SECONDS)
        asked = (error.retry_after or 0.0) if isinstance(error, StripeUnclear) else 0.0
        return max(min(asked, most), random.uniform(doubled / 2, doubled))  # noqa: S311  # jitter

    def seconds_left(self, due_at: datetime | None, *, now: datetime) -> float:
        """How long a row with this time still has to wait; 0 when it is due."""
        left = timedelta() if due_at is None else due_at - now
        return left.total_seconds() if timedelta() < left <= self.longest else 0.0

    def is_due(self, due_at: sa.ColumnElement[Any], *, now: datetime) -> sa.ColumnElement[bool]:
        """The same in SQL: whether the time in this column has come, is not set, or cannot be right."""
        return sa.or_(due_at.is_(None), due_at <= now, due_at > now + self.longest)


def is_failure(error: Exception | None) -> bool:
    """Whether the error counts as a failure of this work: a Stripe that has no time for anybody does not."""
    return not isinstance(error, StripeBusy)
