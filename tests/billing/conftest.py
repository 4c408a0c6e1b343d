"""What the tests of billing share: a clock that stands still, a queue that keeps what was sent, a Stripe in memory.

And a Valkey where it has to be a real one, once a file.
"""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
import sqlalchemy as sa

from billing.coordination.queue import InlineQueue
from billing.coordination.redis_client import connect_redis
from billing.customers.customers import claim_customer
from billing.database import Database
from billing.models import events
from billing.webhooks.process import Context, work_events
from tests.support.builders import CATALOG, SECRET, MovableClock, deliver
from tests.support.checkout_world import World
from tests.support.fakes import FakeStripe
from tests.support.receiving import receive
from tests.support.valkey import Valkey, running_valkey


@pytest.fixture
def clock() -> MovableClock:
    """Noon, until the test moves it."""
    return MovableClock()


@pytest.fixture
def queue() -> InlineQueue:
    """Keeps what was sent."""
    return InlineQueue()


@pytest.fixture
def world(database: Database) -> World:
    """An empty ledger, an empty Stripe."""
    return World(database)


@pytest.fixture
def stripe() -> FakeStripe:
    """A Stripe with one customer and nothing else."""
    fake = FakeStripe()
    fake.put({"id": "cus_1", "object": "customer"})
    return fake


@pytest.fixture
def owned(database: Database, clock: MovableClock) -> None:
    """That customer is a user's."""
    claim_customer("user_1", "cus_1", database=database, clock=clock)


@pytest.fixture
def record(database: Database, queue: InlineQueue, clock: MovableClock) -> Callable[[Any], int]:
    """Receive an event as Stripe would deliver it; the id of its row."""

    def record(event: Any) -> int:
        body, header = deliver(event, at=clock.now())
        collaborators: dict[str, Any] = {"database": database, "queue": queue, "clock": clock}
        assert receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **collaborators) == "recorded"
        with database.read() as connection:
            return int(connection.scalar(sa.select(sa.func.max(events.c.id))) or 0)

    return record


@pytest.fixture
def compared() -> list[sa.Connection]:
    """How often everybody was to be compared."""
    return []


@pytest.fixture
def work(
    database: Database, queue: InlineQueue, clock: MovableClock, stripe: FakeStripe, compared: list[sa.Connection]
) -> Callable[..., bool]:
    """Work one wake-up, as a worker would: everything that is due, what was just recorded among it."""

    def work(*_recorded: object) -> bool:
        collaborators: dict[str, Any] = {"database": database, "queue": queue, "clock": clock, "stripe": stripe}
        return work_events(Context(catalog=CATALOG, compare_everybody=compared.append, **collaborators))

    return work


@pytest.fixture
def statuses(database: Database) -> Callable[[], list[str]]:
    """The status of every event."""

    def statuses() -> list[str]:
        with database.read() as connection:
            return list(connection.scalars(sa.select(events.c.status).order_by(events.c.id)))

    return statuses


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    """One server for a file; a test that kills it starts it again."""
    with running_valkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def client(valkey: Valkey) -> Iterator["redis.Redis"]:
    """An empty database."""
    with connect_redis(valkey.url) as connection:
        connection.flushdb()
        yield connection
