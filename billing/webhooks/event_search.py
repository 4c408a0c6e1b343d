"""Which events a person means: by id, by time, by a pattern; said so that the indexes there are answer it.

No index is for people alone, since each costs every delivery. An event's id is found by the unique one, and a time by
the rows' numbers, which follow it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.models import events

# 1 h: how far the clocks of two webs, and a transaction that commits late, may be apart.
SLACK = timedelta(hours=1)
PROBE_ROWS = 20  # neighbours that are asked together: a single web whose clock is off does not mislead


def has_id(*event_ids: str) -> sa.ColumnElement[bool]:
    """That it is one of Stripe's events, whichever account sent it.

    The unique index begins with the account and the mode. So the accounts, of which there are few, are read from the
    index first, each by one look for the next one.
    """
    return sa.and_(
        events.c.account.in_(_different(events.c.account)),
        events.c.livemode.in_([False, True]),
        events.c.event_id.in_(event_ids),
    )


def concrete_types(connection: sa.Connection, patterns: Sequence[str]) -> tuple[str, ...]:
    """The types that the ledger has and a pattern names; a pattern that names none, so that nothing is found.

    There are some dozens. What no event has is then no look at every event.
    """
    if not any("*" in pattern for pattern in patterns):
        return tuple(patterns)
    types = _different(events.c.type).subquery().c[0]
    found = connection.scalars(sa.select(types).where(sa.or_(*(like(types, one) for one in patterns))))
    return tuple(found) or tuple(one.replace("*", "") for one in patterns)


def first_id_since(connection: sa.Connection, since: datetime) -> int:
    """A row number before which every event was received before `since`: halving, some twenty looks at the key."""
    low, high = connection.execute(_ENDS).one()
    if low is None:
        return 0
    while low < high:
        middle = (low + high) // 2
        newest = connection.scalar(_NEWEST_NEAR, {"middle": middle})
        if newest is not None and newest < since - SLACK:
            low = middle + 1
        else:
            high = middle
    return int(low)


# Two looks at the key: of both in one SELECT, SQLite reads every row.
_ENDS = sa.select(*(sa.select(end(events.c.id)).scalar_subquery() for end in (sa.func.min, sa.func.max)))
# Built once: to build it takes longer than to run it, and it is run twenty times.
_NEAR = sa.select(events.c.received_at).where(events.c.id >= sa.bindparam("middle")).order_by(events.c.id)
_NEWEST_NEAR = sa.select(sa.func.max(_NEAR.limit(PROBE_ROWS).subquery().c.received_at))


def _different(column: sa.Column[str]) -> sa.Select[tuple[str]]:
    """The different values of a column that has few, each by one look for the next one in its index."""
    first = sa.select(sa.func.min(column).label("value")).cte(f"different_{column.name}", recursive=True)
    later = sa.select(sa.func.min(column)).where(column > first.c.value).scalar_subquery()
    values = first.union_all(sa.select(later).where(first.c.value.is_not(None)))
    return sa.select(values.c.value).where(values.c.value.is_not(None))


def like(column: sa.ColumnElement[Any], pattern: str) -> sa.ColumnElement[bool]:
    """That the text is this one; `*` stands for any text."""
    if "*" not in pattern:
        return column == pattern
    escaped = (part.replace("/", "//").replace("%", "/%").replace("_", "/_") for part in pattern.split("*"))
    return column.like("%".join(escaped), escape="/")
