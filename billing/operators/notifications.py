"""What an operator does about notifications: look them up, have them sent again, and try the receiver.

A notification that is sent again has the same id and contents. The receiver drops it where it had it. Changes of one
customer keep their order.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.clock import Clock, iso
from billing.database import Database
from billing.errors import NotFound
from billing.models import outbox
from billing.notifications.senders import NotDelivered, Notifier
from billing.rules.ids import new_id

Row = dict[str, Any]

STATES = ("pending", "delivered", "dead", "erased")
SENDABLE = ("pending", "delivered", "dead")  # of an erased user nothing is left to send
_SHOWN = ("message_id", "kind", "status", "customer_id", "attempts", "created_at", "delivered_at", "error")


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages: by ids, or by what they have in common. An empty one chooses nothing."""

    message_ids: Sequence[str] = ()
    status: str | None = None
    customer_id: str | None = None
    since: datetime | None = None

    def described(self) -> str | None:
        """The filter in words; None where it is empty."""
        parts = [
            ", ".join(self.message_ids),
            f"status {self.status}" if self.status else "",
            f"customer {self.customer_id}" if self.customer_id else "",
            f"since {iso(self.since)}" if self.since else "",
        ]
        return "; ".join(part for part in parts if part) or None

    def where(self) -> list[sa.ColumnElement[bool]]:
        """The conditions in SQL."""
        conditions: list[sa.ColumnElement[bool]] = []
        if self.message_ids:
            conditions.append(outbox.c.message_id.in_(self.message_ids))
        if self.status:
            conditions.append(outbox.c.status == self.status)
        if self.customer_id:
            conditions.append(outbox.c.customer_id == self.customer_id)
        if self.since:
            conditions.append(outbox.c.created_at >= self.since)
        return conditions


def list_messages(chosen: MessageFilter, *, database: Database, limit: int) -> list[Row]:
    """The newest messages, without their contents."""
    query = sa.select(*(outbox.c[name] for name in _SHOWN)).where(*chosen.where())
    with database.read() as connection:
        rows = connection.execute(query.order_by(outbox.c.id.desc()).limit(limit))
        return [dict(row._mapping) for row in rows]


def show_message(message_id: str, *, database: Database) -> Row:
    """One message with what it says. Raises NotFound."""
    columns = (*_SHOWN, "next_attempt_at", "payload")
    query = sa.select(*(outbox.c[name] for name in columns)).where(outbox.c.message_id == message_id)
    with database.read() as connection:
        row = connection.execute(query).first()
    if row is None:
        raise NotFound("notification")
    return dict(row._mapping)


def count_messages(chosen: MessageFilter, *, database: Database) -> int:
    """How many a resend would send again."""
    query = sa.select(sa.func.count()).select_from(outbox).where(*chosen.where(), outbox.c.status.in_(SENDABLE))
    with database.read() as connection:
        return int(connection.scalar(query) or 0)


def resend(chosen: MessageFilter, *, database: Database, clock: Clock) -> int:
    """Make them due now, those that wait for a retry too; how many. Workers send them in the order of each customer."""
    due = sa.update(outbox).where(*chosen.where(), outbox.c.status.in_(SENDABLE))
    with database.write() as connection:
        return connection.execute(due.values(status="pending", next_attempt_at=clock.now())).rowcount


def try_receiver(notifier: Notifier, *, clock: Clock) -> Row:
    """Send a message of the type `test`, once: whether it was taken, in which time, and what was answered."""
    message_id, began = new_id("msg"), time.monotonic()
    body: Row = {"type": "test", "timestamp": iso(clock.now()), "data": {}}
    try:
        notifier.send(message_id, body, at=clock.now())
        error = None
    except NotDelivered as failure:
        error = failure.sentence
    seconds = round(time.monotonic() - began, 3)
    return {"message_id": message_id, "delivered": error is None, "seconds": seconds, "error": error}
