"""Delivers the outbox: each row is one call to the application, in order for each customer, for up to three days.

1 read the first due message of each customer (NTF-1)  2 claim it by compare-and-set (NTF-2)  3 send it, with no
transaction open  4 note the delivery, the next attempt, or that it was given up (NTF-3).
After a kill between 3 and 4 it is sent again under the same id, by which the receiver can drop it.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog
from prometheus_client import Counter

from billing.clock import Clock, iso
from billing.database import Database
from billing.notifications import store as outbox_store
from billing.notifications.senders import NotDelivered, Notifier
from billing.notifications.store import BACKOFF, Message

log = structlog.get_logger(__name__)

MESSAGES = Counter("onelane_messages_total", "Changes sent to the application, by what came of it.", ["outcome"])

BATCH = 100  # messages that one read finds
GIVE_UP = timedelta(days=3)  # as long as Stripe repeats a delivery


@dataclass(frozen=True, slots=True)
class NotifyReport:
    """Counts of one round."""

    delivered: int = 0
    postponed: int = 0
    given_up: int = 0
    unfinished: bool = False  # stopped before nothing was due


def notify(
    *, database: Database, notifier: Notifier, clock: Clock, stop: Callable[[], bool] = lambda: False
) -> NotifyReport:
    """Send messages until none is due, or until `stop`. Safe from any number of workers at once.

    Raises LedgerUnavailable.
    """
    counts = {"delivered": 0, "postponed": 0, "given_up": 0}
    more, unfinished = True, False
    while more and not unfinished:
        with database.read() as connection:
            messages = outbox_store.due(connection, now=clock.now(), limit=BATCH)
        more = len(messages) == BATCH
        for message in messages:
            if unfinished := stop():
                break
            outcome = _send(message, database=database, notifier=notifier, clock=clock)
            if outcome is not None:
                counts[outcome] += 1
                MESSAGES.labels(outcome).inc()
            # These make the customer's next message due (NTF-1).
            more = more or outcome in ("delivered", "given_up")
    return NotifyReport(counts["delivered"], counts["postponed"], counts["given_up"], unfinished)


def _send(message: Message, *, database: Database, notifier: Notifier, clock: Clock) -> str | None:
    """Steps 2 to 4 for one message; None when another worker has it."""
    token = str(uuid.uuid4())
    with database.write() as connection:
        if not outbox_store.claim(connection, message, token=token, now=clock.now()):
            return None
    body = {"type": message.kind, "timestamp": iso(message.created_at), "data": dict(message.payload)}
    at, began = clock.now(), time.monotonic()

    def tried(status: int | None, error: str | None = None) -> dict[str, Any]:
        return {"at": iso(at), "seconds": round(time.monotonic() - began, 3), "status": status, "error": error}

    try:
        status = notifier.send(message.message_id, body, at=at)
    except NotDelivered as error:
        return _put_off(message, token, error, tried(error.status, error.sentence), database=database, clock=clock)
    now = clock.now()
    sent: dict[str, Any] = {"status": "delivered", "error": None, "next_attempt_at": now, "delivered_at": now}
    with database.write() as connection:
        outbox_store.settle(connection, message, token=token, tried=tried(status), **sent)
    log.info("notification.delivered", **_about(message), attempts=message.attempts + 1)
    return "delivered"


def _put_off(
    message: Message, token: str, error: NotDelivered, tried: dict[str, Any], *, database: Database, clock: Clock
) -> str:
    """Note the next attempt; after three days the message is dead, and the customer's next one is sent."""
    now = clock.now()
    over = now - message.created_at >= GIVE_UP
    later = now + timedelta(seconds=BACKOFF.wait_seconds(message.attempts))
    failed: dict[str, Any] = {
        "status": "dead" if over else "pending",
        "error": error.sentence,
        "next_attempt_at": later,
    }
    with database.write() as connection:
        outbox_store.settle(connection, message, token=token, tried=tried, **failed)
    event = "notification.given_up" if over else "notification.postponed"
    log.warning(event, **_about(message), attempts=message.attempts + 1, error=error.sentence)
    return "given_up" if over else "postponed"


def _about(message: Message) -> dict[str, str]:
    return {"customer_id": message.customer_id, "message_id": message.message_id, "type": message.kind}
