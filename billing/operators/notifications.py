"""What an operator does about notifications: look them up, have them sent again, and try the receiver.

A notification that is sent again has the same id and contents. The receiver drops it where it had it. Changes of one
customer keep their order.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from billing.clock import Clock, iso
from billing.customers.store import customers_named
from billing.database import Database
from billing.errors import NotFound
from billing.models import outbox
from billing.notifications.senders import NotDelivered, Notifier
from billing.operators.listing import Row, first_of, rows_of
from billing.rules.ids import new_id

STATES = ("pending", "delivered", "dead", "erased")
BATCH = 200  # made due in a transaction: workers send the first ones meanwhile
SENDABLE = ("pending", "delivered", "dead")  # of an erased user nothing is left to send
_SHOWN = ("message_id", "kind", "status", "customer_id", "attempts", "created_at", "delivered_at", "error")


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages: by ids, or by what they have in common. An empty one chooses nothing."""

    message_ids: Sequence[str] = ()
    status: str | None = None
    customer_id: str | None = None  # or the id of their user
    since: datetime | None = None

    def described(self) -> str | None:
        """The filter in words; None where it is empty. The customer last, as in `EventFilter.in_words`."""
        parts = [
            ", ".join(self.message_ids),
            f"status {self.status}" if self.status else "",
            f"since {iso(self.since)}" if self.since else "",
            f"customer {self.customer_id}" if self.customer_id else "",
        ]
        return "; ".join(part for part in parts if part) or None

    def where(self) -> list[sa.ColumnElement[bool]]:
        conditions: list[sa.ColumnElement[bool]] = []
        if self.message_ids:
            conditions.append(outbox.c.message_id.in_(self.message_ids))
        if self.status:
            conditions.append(outbox.c.status == self.status)
        if self.customer_id:
            conditions.append(outbox.c.customer_id.in_(customers_named(self.customer_id)))
        if self.since:
            conditions.append(outbox.c.created_at >= self.since)
        return conditions


def list_messages(chosen: MessageFilter, *, database: Database, limit: int) -> list[Row]:
    """The newest messages, without their contents."""
    query = sa.select(*(outbox.c[name] for name in _SHOWN)).where(*chosen.where())
    with database.read() as connection:
        return rows_of(connection, query.order_by(outbox.c.id.desc()).limit(limit))


def show_message(message_id: str, *, database: Database) -> Row:
    """One message with what it says, and its last tries: when, how long, what was answered. Raises NotFound."""
    columns = (*_SHOWN, "next_attempt_at", "payload", "history")
    query = sa.select(*(outbox.c[name] for name in columns)).where(outbox.c.message_id == message_id)
    with database.read() as connection:
        row = first_of(connection, query)
    if row is None:
        raise NotFound("notification")
    return {**row, "history": row["history"] or []}


def count_messages(chosen: MessageFilter, *, database: Database) -> int:
    """How many a resend would send again."""
    query = sa.select(sa.func.count()).select_from(outbox).where(*chosen.where(), outbox.c.status.in_(SENDABLE))
    with database.read() as connection:
        return int(connection.scalar(query) or 0)


def resend(
    chosen: MessageFilter,
    *,
    database: Database,
    clock: Clock,
    progress: Callable[[int], None] = lambda rows: None,
    stop: Callable[[], bool] = lambda: False,
) -> int:
    """Make them due now, those that wait for a retry too; how many. Workers send them in the order of each customer.

    Oldest first, a batch in a transaction, until `stop`: what comes later is as it was. `progress` is told of each.
    """
    matching, made_due, after = (*chosen.where(), outbox.c.status.in_(SENDABLE)), 0, 0
    with database.read() as connection:
        newest = connection.scalar(sa.select(sa.func.max(outbox.c.id)).where(*matching)) or 0
    while after < newest and not stop():
        batch = sa.select(outbox.c.id).where(*matching, outbox.c.id > after, outbox.c.id <= newest)
        with database.write() as connection:
            ids = connection.scalars(batch.order_by(outbox.c.id).limit(BATCH)).all()
            due = sa.update(outbox).where(outbox.c.id.in_(ids), outbox.c.status.in_(SENDABLE))
            changed = connection.execute(due.values(status="pending", next_attempt_at=clock.now())).rowcount
        made_due, after = made_due + changed, ids[-1] if ids else newest
        progress(changed)
    return made_due


def try_receiver(notifier: Notifier, *, clock: Clock) -> Row:
    """Send a message of the type `test`, once: whether it was taken, in which time, and what was answered."""
    message_id, began = new_id("msg"), time.monotonic()
    body: Row = {"type": "test", "timestamp": iso(clock.now()), "data": {}}
    error = None
    try:
        status = notifier.send(message_id, body, at=clock.now())
    except NotDelivered as failure:
        status, error = failure.status, failure.sentence
    tried = {"status": status, "seconds": round(time.monotonic() - began, 3), "error": error}
    return {"message_id": message_id, "delivered": error is None, **tried}
