"""What the tests of reconciling and of replays share."""

import pytest
import sqlalchemy as sa

from billing.models import events
from tests.support.builders import NOON, build_event, build_subscription
from tests.support.reconcile_world import Shop


@pytest.fixture
def shop(database):
    """A shop on a ledger of its own."""
    return Shop(database)


@pytest.fixture
def put(record, database):
    """Events of this status, each of a customer of its own unless one is named; their row ids."""

    def put(count=1, *, status="dead", customer=None, **columns):
        first = record(build_event(subject=build_subscription(customer=customer or "cus_1")))
        with database.write() as connection:
            one = connection.execute(sa.select(events).where(events.c.id == first)).one()._mapping
            ended = None if status == "pending" else NOON
            values = {"status": status, "attempts": 1, "error": "no", "finished_at": ended, **columns}
            connection.execute(sa.update(events).where(events.c.id == first).values(values))
            more = [
                {name: value for name, value in one.items() if name != "id"}
                | {"event_id": f"{one['event_id']}_{n}", "customer_id": customer or f"cus_{first}_{n}", **values}
                for n in range(count - 1)
            ]
            if more:
                connection.execute(sa.insert(events), more)
            return list(connection.scalars(sa.select(events.c.id).where(events.c.id >= first).order_by(events.c.id)))

    return put
