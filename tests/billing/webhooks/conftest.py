"""What the tests of working events share: the rows and the projection, read."""

import pytest
import sqlalchemy as sa

from billing.models import events
from billing.subscriptions import projection_store
from billing.webhooks.ingest import Ingest
from tests.support.builders import SECRET, deliver
from tests.support.receiving import MAX_BYTES
from tests.support.reconcile_world import Shop


@pytest.fixture
def read(database):
    """Every row of a table, in order."""

    def read(table):
        with database.read() as connection:
            return connection.execute(sa.select(table).order_by(*table.primary_key)).all()

    return read


@pytest.fixture
def projected(database):
    """A customer's subscriptions as projected: id and status."""

    def projected(customer_id="cus_1"):
        with database.read() as connection:
            rows = projection_store.read_subscriptions(connection, customer_id)
        return {row.subscription_id: row.status for row in rows}

    return projected


@pytest.fixture
def take(database, queue, clock):
    """Deliver an event (or raw bytes), signed properly, and wait until it is answered and whoever must be was woken."""

    def take(event, **instead):
        body, header = deliver(event, at=clock.now())
        arguments = {"secrets": [SECRET], "database": database, "queue": queue, "clock": clock, "max_bytes": MAX_BYTES}
        ingest = Ingest(**arguments | instead)
        try:
            row = ingest.submit(body, ingest.expect(len(body), header)).result(20)
        finally:
            ingest.close()
        return "duplicate" if row is None else "recorded"

    return take


@pytest.fixture
def rows(database):
    """What the ledger holds."""

    def rows():
        with database.read() as connection:
            return connection.execute(sa.select(events).order_by(events.c.id)).all()

    return rows


@pytest.fixture
def shop(database):
    """A shop whose events are delivered by hand."""
    return Shop(database)


@pytest.fixture
def during(stripe):
    """Do this once, while the next answer is on its way."""

    def during(what):
        def step_in(_name):
            stripe.before_arrival = lambda _name: None
            what()

        stripe.before_arrival = step_in

    return during
