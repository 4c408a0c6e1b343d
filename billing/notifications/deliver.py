"""Notifications: outbox rows become calls to the application, in order for each customer, for up to three days.

1 the first due message of each customer (NTF-1)  2 claim it by compare-and-set (NTF-2)  3 send, with no transaction
open  4 note the delivery, the next attempt, or that it was given up (NTF-3). A worker killed between 3 and 4 sends
again under the same id: at least once, and the receiver can tell.
"""

import dataclasses
import random
from dataclasses import dataclass
from datetime import timedelta

import structlog

from billing.clock import Clock, iso
from billing.database import Database
from billing.notifications import store as outbox_store
from billing.notifications.senders import NotDelivered, Notifier
from billing.notifications.store import Message

log = structlog.get_logger(__name__)

BATCH = 100
LEASE = timedelta(seconds=30)  # longer than one call may take (13 s)
GIVE_UP = timedelta(days=3)  # as Stripe does with us
MAX_BACKOFF_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class NotifyReport:
    """What one round did."""

    delivered: int = 0
    postponed: int = 0
    given_up: int = 0


def notify(*, database: Database, notifier: Notifier, clock: Clock, limit: int = BATCH) -> NotifyReport:
    """Send what is due, at most `limit` messages. Any number at once is harmless. Raises LedgerUnavailable."""
    counts = {"delivered": 0, "postponed": 0, "given_up": 0}
    left = limit
    while left > 0:
        with database.read() as connection:
            messages = outbox_store.due(connection, now=clock.now(), limit=left)
        outcomes = [_send(message, database=database, notifier=notifier, clock=clock) for message in messages]
        for outcome in outcomes:
            if outcome is not None:
                counts[outcome] += 1
        left -= len(messages)
        if "delivered" not in outcomes:
            break  # only a delivery can make a customer's next message due
    return NotifyReport(**counts)


def _send(message: Message, *, database: Database, notifier: Notifier, clock: Clock) -> str | None:
    """Steps 2 to 4 for one message; None when another worker has it."""
    with database.write() as connection:
        if not outbox_store.claim(connection, message, until=clock.now() + LEASE):
            return None
    claimed = dataclasses.replace(message, attempts=message.attempts + 1)
    body = {"type": message.kind, "timestamp": iso(message.created_at), "data": dict(message.payload)}
    try:
        notifier.send(message.message_id, body, at=clock.now())
    except NotDelivered as error:
        return _put_off(claimed, error, database=database, clock=clock)
    now = clock.now()
    with database.write() as connection:
        outbox_store.settle(connection, claimed, status="delivered", error=None, next_attempt_at=now, delivered_at=now)
    log.info("notification.delivered", message_id=message.message_id, type=message.kind, attempts=claimed.attempts)
    return "delivered"


def _put_off(claimed: Message, error: NotDelivered, *, database: Database, clock: Clock) -> str:
    """Try again later and later; after three days the message is dead, and the customer's next one has its turn."""
    now = clock.now()
    over = now - claimed.created_at >= GIVE_UP
    longest = min(5 * 2 ** (claimed.attempts - 1), MAX_BACKOFF_SECONDS)
    wait = timedelta(seconds=random.uniform(longest / 2, longest))  # noqa: S311 - spread, not secrecy
    with database.write() as connection:
        status = "dead" if over else "pending"
        outbox_store.settle(connection, claimed, status=status, error=error.sentence, next_attempt_at=now + wait)
    event = "notification.given_up" if over else "notification.postponed"
    log.warning(
        event, message_id=claimed.message_id, type=claimed.kind, attempts=claimed.attempts, error=error.sentence
    )
    return "given_up" if over else "postponed"
