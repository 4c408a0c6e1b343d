"""What the webhook tests share: a clock that stands still, a queue that keeps what was sent, a Stripe in memory."""

from collections.abc import Callable
from typing import Any

import pytest

from billing.database import Database
from billing.queue import InlineQueue
from billing.webhooks.ingest import receive
from billing.webhooks.processing import process_event
from tests.builders import CATALOG, SECRET, MovableClock, deliver
from tests.fakes import FakeStripe


@pytest.fixture
def clock() -> MovableClock:
    """Noon, until the test moves it."""
    return MovableClock()


@pytest.fixture
def queue() -> InlineQueue:
    """Keeps what was sent."""
    return InlineQueue()


@pytest.fixture
def stripe() -> FakeStripe:
    """A Stripe with one customer and nothing else."""
    fake = FakeStripe()
    fake.put({"id": "cus_1", "object": "customer"})
    return fake


@pytest.fixture
def record(database: Database, queue: InlineQueue, clock: MovableClock) -> Callable[[Any], int]:
    """Receive an event as Stripe would deliver it; the id of its row, as the wake-up names it."""

    def record(event: Any) -> int:
        body, header = deliver(event, at=clock.now())
        collaborators: dict[str, Any] = {"database": database, "queue": queue, "clock": clock}
        assert receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **collaborators) == "recorded"
        return queue.sent[-1].row_id

    return record


@pytest.fixture
def work(database: Database, queue: InlineQueue, clock: MovableClock, stripe: FakeStripe) -> Callable[[int], None]:
    """Work one wake-up, as a worker would."""

    def work(row_id: int) -> None:
        collaborators: dict[str, Any] = {"database": database, "queue": queue, "clock": clock, "stripe": stripe}
        process_event(row_id, catalog=CATALOG, **collaborators)

    return work
