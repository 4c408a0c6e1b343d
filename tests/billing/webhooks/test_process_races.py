"""Workers and receivers at the same time, with real threads. The tests assert what must hold, not the schedule."""

import itertools
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import sqlalchemy as sa

from billing.coordination.queue import InlineQueue
from billing.errors import StaleWrite
from billing.models import events, incidents, outbox
from billing.subscriptions import projection_store
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from billing.webhooks.claim import claim
from tests.support.builders import CATALOG, NOON, build_event, build_subscription

WORKERS = 8


@pytest.fixture
def slow(stripe):
    """Answers arrive late, each by another while: what was fetched first is often written last."""
    dice = random.Random(7)
    stripe.before_arrival = lambda _name: time.sleep(dice.random() / 200)
    return stripe


def all_of(database, table):
    """Every row of a table."""
    with database.read() as connection:
        return connection.execute(sa.select(table).order_by(table.c.id)).all()


def test_eight_workers_on_one_customer_end_with_stripes_state(database, slow, record, work, clock):
    """WHK-13, LED-2, LED-5: while Stripe's state changes with every event."""
    rows = []

    def change(number):
        status = "canceled" if number == 29 else random.choice(["active", "past_due", "paused"])
        slow.put(build_subscription(status=status))
        return record(build_event(subject=build_subscription(status="trialing")))

    def run(_worker):
        for _ in range(2):
            for row in list(rows):
                work(row)

    with ThreadPoolExecutor(WORKERS) as threads:
        workers = []
        for number in range(30):
            rows.append(change(number))
            if number % 4 == 0:
                workers.append(threads.submit(run, number))
        for worker in workers:
            worker.result()
    clock.advance(hours=1)  # whoever was overtaken five times in a row had put its events off
    run(0)
    with database.read() as connection:
        [row] = projection_store.read_subscriptions(connection, "cus_1")
    assert row.status == "canceled"
    assert {event.status for event in all_of(database, events)} == {"done"}
    # Each note continues where the one before ended: none is missing, none came twice.
    noted = [change.payload["subscription"]["status"] for change in all_of(database, outbox)]
    assert all(before != after for before, after in itertools.pairwise(noted))
    assert noted[-1] == "canceled"


def test_fetches_that_race_never_bring_old_news_back(database, slow):
    """LED-5: syncs without any claim, as reconciling does them; versions seen by the outbox only ever rise."""
    state = threading.Lock()
    versions = iter(range(1, 10_000))

    def sync(_number):
        with state:
            version = next(versions)
            slow.put(build_subscription(item={"quantity": version}))
        for _ in range(20):
            with suppress(StaleWrite):  # overtaken five times in a row
                sync_customer(
                    "cus_1",
                    SyncContext(database=database, stripe=slow, queue=InlineQueue(), clock=Standing(), catalog=CATALOG),
                )
                return

    with ThreadPoolExecutor(WORKERS) as threads:
        list(threads.map(sync, range(40)))
    quantities = [row.payload["subscription"]["quantity"] for row in all_of(database, outbox)]
    assert quantities == sorted(set(quantities))
    assert quantities[-1] == 40


class Standing:
    """Time does not matter here."""

    def now(self):
        """Noon."""
        return NOON


def test_one_claim_gets_each_event(database, record, clock):
    """LED-2: eight workers wake for the same customer at the same moment."""
    rows = [record(build_event()) for _ in range(10)]
    together = threading.Barrier(WORKERS)

    def take(_worker):
        together.wait()
        with database.write() as connection:
            return claim(connection, now=clock.now()).ids

    with ThreadPoolExecutor(WORKERS) as threads:
        claimed = [row for batch in threads.map(take, range(WORKERS)) for row in batch]
    assert sorted(claimed) == rows


def test_eight_workers_take_eight_customers_at_once(database, record, clock):
    """LED-40: nobody waits for another one's claim, and each customer is one worker's."""
    if database.is_sqlite:
        pytest.skip("one writer at a time")
    for number in range(WORKERS * 4):
        record(build_event(subject=build_subscription(customer=f"cus_{number % WORKERS}")))
    together = threading.Barrier(WORKERS)

    def take(_worker):
        with database.write() as connection:
            batch = claim(connection, now=clock.now())
            together.wait(10)  # all claims are open
            return batch

    with ThreadPoolExecutor(WORKERS) as threads:
        batches = list(threads.map(take, range(WORKERS)))
    assert len({batch.customer_id for batch in batches}) == WORKERS
    assert {len(batch.events) for batch in batches} == {4}


@pytest.mark.usefixtures("owned")
def test_workers_that_see_a_duplicate_at_once_open_one_incident(database, slow):
    """SUB-8."""
    slow.put(build_subscription(), build_subscription("sub_2"))

    def sync(_number):
        sync_customer(
            "cus_1", SyncContext(database=database, stripe=slow, queue=InlineQueue(), clock=Standing(), catalog=CATALOG)
        )

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(sync, range(3)))
    assert len(all_of(database, incidents)) == 1
