"""A lease: a row is one worker's until a time that is near, and the worker renews it whenever it gets on.

A worker that dies, freezes or hangs stops renewing, and another one takes the row. A change by the holder is one UPDATE
that expects its token, so a worker that lost its lease changes nothing. A lease that ends later than any right clock
could have set was written by a clock that is ahead. It is not waited for (OPS-71).
"""

from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

# 25 s: longer than a call to Stripe or to the application (10 and 13 s). With the sweep's 30 s, what a killed worker
# held is worked again within a minute.
LEASE = timedelta(seconds=25)
# 60 s: a lease of 25 s, by a clock that is up to 35 s ahead.
LONGEST = timedelta(seconds=60)
RENEW_SECONDS = 5.0  # a lease that was renewed within this time is not written again

FREE: dict[str, Any] = {"claim": None, "claimed_until": None}


def taken(token: str, *, now: datetime) -> dict[str, Any]:
    """The values of a row that is this token's from now on, and of one whose lease is renewed."""
    return {"claim": token, "claimed_until": ends_at(now)}


def ends_at(now: datetime) -> datetime:
    return now + LEASE


def is_free(until: sa.ColumnElement[Any], *, now: datetime) -> sa.ColumnElement[bool]:
    """Whether a row is free: no lease was taken, or its end in this column is over or not credible."""
    return sa.or_(until.is_(None), until <= now, until > now + LONGEST)


def is_mine(claim: sa.ColumnElement[Any], token: str | None) -> sa.ColumnElement[bool]:
    """Whether the row is still held by this token, also after its lease has ended."""
    return claim == token
