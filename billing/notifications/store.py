"""SQL of the outbox: the changes to send to the application, in order for each customer.

A message is claimed with a lease. Only the oldest pending message of a customer is ever due, so a later one cannot
overtake it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.models import outbox
from billing.rules import lease
from billing.rules.backoff import Backoff

BACKOFF = Backoff(timedelta(seconds=5), timedelta(hours=1))
MOST_KEPT = 20  # tries of a message: the first hour, or the last day of three


@dataclass(frozen=True, slots=True)
class Message:
    """A row of the outbox, as read."""

    id: int
    message_id: str
    customer_id: str
    kind: str
    payload: Mapping[str, Any]
    attempts: int
    history: Sequence[Mapping[str, Any]] | None
    created_at: datetime


def due(connection: sa.Connection, *, now: datetime, limit: int) -> Sequence[Message]:
    """The first pending message of each customer, where its time has come."""
    earlier = outbox.alias()
    overtaken = sa.exists().where(
        earlier.c.customer_id == outbox.c.customer_id,
        earlier.c.status == "pending",
        earlier.c.id < outbox.c.id,
    )
    statement = (
        sa.select(*(outbox.c[name] for name in Message.__slots__))
        .where(
            outbox.c.status == "pending", BACKOFF.is_due(outbox.c.next_attempt_at, now=now), _is_free(now), ~overtaken
        )
        .order_by(outbox.c.next_attempt_at, outbox.c.id)
        .limit(limit)
    )
    return [Message(**row._mapping) for row in connection.execute(statement)]


def claim(connection: sa.Connection, message: Message, *, token: str, now: datetime) -> bool:
    """Take a message as it was read; whether it is ours."""
    as_read = sa.and_(outbox.c.attempts == message.attempts, _is_free(now))
    return _change(connection, message, as_read, **lease.taken(token, now=now))


def settle(
    connection: sa.Connection,
    message: Message,
    *,
    token: str,
    status: str,
    error: str | None,
    next_attempt_at: datetime,
    tried: Mapping[str, Any],
    delivered_at: datetime | None = None,
) -> bool:
    """Note the result of a claimed message and release the claim; nothing when another worker has claimed it since.

    `tried` is kept with the tries before it, of which the oldest go (NTF-30).
    """
    values = {"status": status, "error": error, "next_attempt_at": next_attempt_at, "delivered_at": delivered_at}
    history = [*(message.history or ()), tried][-MOST_KEPT:]
    ended = {**values, "attempts": message.attempts + 1, "history": history, **lease.FREE}
    return _change(connection, message, lease.is_mine(outbox.c.claim, token), **ended)


def count_untaken(connection: sa.Connection) -> int:
    """How many messages were refused and wait, or were given up."""
    waits = sa.and_(outbox.c.status == "pending", outbox.c.attempts > 0)
    untaken = sa.select(sa.func.count()).select_from(outbox).where(sa.or_(waits, outbox.c.status == "dead"))
    return int(connection.scalar(untaken) or 0)


def _is_free(now: datetime) -> sa.ColumnElement[bool]:
    return lease.is_free(outbox.c.claimed_until, now=now)


def _change(connection: sa.Connection, message: Message, expected: sa.ColumnElement[bool], **values: Any) -> bool:
    same = sa.update(outbox).where(outbox.c.id == message.id, outbox.c.status == "pending", expected)
    return connection.execute(same.values(**values)).rowcount == 1
