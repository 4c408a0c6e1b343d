"""Events that trickle in, as Stripe sends them: real threads, real time, the sandbox behind the real SDK, 100 ms away.

What is counted is fetches. The bound holds on a slow machine, too: it is counted from the time that the events took.
"""

import heapq
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Job
from billing.database import Database
from billing.models import events, subscriptions
from tests.support.builders import SECRET, MovableClock, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive
from tests.support.working import work_due

LATENCY = 0.1
REST = 1.0  # what WHK-75 and WHK-76 say
# From the first event, as a `stripe listen` showed one subscription checkout (its log has seconds; spread within them).
OBSERVED = [
    ("charge.succeeded", 0.0),
    ("payment_method.attached", 0.05),
    ("checkout.session.completed", 0.1),
    ("customer.updated", 0.3),
    ("customer.subscription.created", 1.0),
    ("payment_intent.succeeded", 1.1),
    ("payment_intent.created", 1.2),
    ("invoice.created", 1.3),
    ("invoice.finalized", 1.4),
    ("invoice.paid", 1.5),
    ("invoice.payment_succeeded", 1.6),
    ("invoice_payment.paid", 2.0),
]


class Running(MovableClock):
    """The time that it is."""

    def now(self) -> datetime:
        """Now."""
        return datetime.now(UTC)

    @property
    def time(self) -> datetime:  # type: ignore[override]
        return self.now()

    @time.setter
    def time(self, _value: datetime) -> None:
        """It passes by itself."""


class Threads:
    """A queue whose messages are worked by threads when they are due: one for each event, none left out."""

    def __init__(self, work: Callable[[Job], None], count: int) -> None:
        self._work, self._number = work, 0
        self._waiting: list[tuple[float, int, Job]] = []
        self._changed = threading.Condition()
        self._stopped = False
        self.longest_turned_away = 0.0
        self._threads = [threading.Thread(target=self._run) for _ in range(count)]
        for thread in self._threads:
            thread.start()

    def send(self, job: Job, *, delay_seconds: float = 0) -> None:
        with self._changed:
            self._number += 1
            heapq.heappush(self._waiting, (time.monotonic() + delay_seconds, self._number, job))
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(10)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._stopped and not (self._waiting and self._waiting[0][0] <= time.monotonic()):
                    self._changed.wait(0.01 if self._waiting else None)
                if self._stopped:
                    return
                job = heapq.heappop(self._waiting)[2]
            self._work(job)


class Trickle:
    """A customer with a subscription, workers, and events that are delivered while these work."""

    def __init__(self, database: Database, workers: int) -> None:
        self.world = World(database, clock=Running())
        self.database = database
        checkout = self.world.served("standard")
        self.session_id = str(checkout.session_id)
        self.queue = Threads(self._process, workers)
        self.places = {"database": database, "queue": self.queue, "clock": self.world.clock}
        self.arrivals: list[float] = []

    def _process(self, _job: Job) -> None:
        work_due(stripe=self.world.stripe, catalog=self.world.catalog, **self.places)

    def slow_down(self) -> None:
        """From now on every read takes a while, and is counted."""
        self.world.sandbox.log.clear()
        self.world.sandbox.faults.add("delay_after", method="GET", path="/v1/", seconds=LATENCY, times=None)

    def deliver(self, event: dict[str, object]) -> None:
        body, header = deliver(event, at=self.world.clock.now())
        receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **self.places)
        self.arrivals.append(time.monotonic())

    def settle(self) -> None:
        """Until nothing waits."""
        deadline = time.monotonic() + 30
        pending = sa.select(sa.func.count()).select_from(events).where(events.c.status == "pending")
        while True:
            with self.database.read() as connection:
                if connection.scalar(pending) == 0:
                    return
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def fetches(self) -> list[tuple[float, float]]:
        """When each of them began and ended."""
        asked = self.world.requests("GET", "/v1/subscriptions")
        return [(one["at"] - one["seconds"], one["at"]) for one in asked if one["path"] == "/v1/subscriptions"]

    def most(self) -> int:
        """What WHK-75 allows: two, and one more for each second and fetch between the first and the last event."""
        window = self.arrivals[-1] - self.arrivals[0]
        return 2 + int(window / (REST + LATENCY))

    def closed_by_older_fetch(self) -> list[str]:
        """Events that no fetch began after, before they were closed."""
        with self.database.read() as connection:
            rows = connection.execute(sa.select(events).where(events.c.status == "done")).all()
        fetches = self.fetches()
        return [
            row.event_id
            for row in rows
            if not any(
                began >= row.received_at.timestamp() - 0.002 and ended <= row.finished_at.timestamp() + 0.002
                for began, ended in fetches
            )
        ]


@contextmanager
def trickling(database: Database, workers: int) -> Iterator[Trickle]:
    trickle = Trickle(database, workers)
    try:
        yield trickle
    finally:
        trickle.queue.stop()


@pytest.fixture(params=[1, 4], ids=["one worker", "four workers"])
def trickle(request: pytest.FixtureRequest, database: Database) -> Iterator[Trickle]:
    """Over a real ledger."""
    with trickling(database, request.param) as one:
        yield one


def test_twelve_changes_within_two_seconds_cost_few_fetches(
    trickle: Trickle, capsys: pytest.CaptureFixture[str]
) -> None:
    """WHK-74, WHK-75, WHK-13: the twelfth shows, too."""
    sandbox = trickle.world.sandbox
    sandbox.pay(trickle.session_id)
    [subscription] = trickle.world.objects("subscription")
    item = subscription["items"]["data"][0]["id"]
    trickle.slow_down()
    begun = time.monotonic()
    for number in range(12):
        change = {"items": {"0": {"id": item, "quantity": str(number + 2)}}, "proration_behavior": "none"}
        answer = sandbox.request("POST", f"/v1/subscriptions/{subscription['id']}", change)
        assert answer.status == 200, answer.body
        newest = next(one for one in trickle.world.objects("event") if one["type"] == "customer.subscription.updated")
        trickle.deliver(newest)
        time.sleep(max(0.0, begun + (number + 1) / 6 - time.monotonic()))  # the pace of arrivals, no wait for a result
    trickle.settle()
    with trickle.database.read() as connection:
        assert connection.scalars(sa.select(subscriptions.c.quantity)).all() == [13]
        assert connection.scalars(sa.select(events.c.status)).all() == ["done"] * 12
    assert len(trickle.fetches()) <= trickle.most()
    assert all(ended - began >= LATENCY for began, ended in trickle.fetches())
    assert trickle.closed_by_older_fetch() == []
    with capsys.disabled():
        print(f" {len(trickle.fetches())} fetches in {trickle.arrivals[-1] - trickle.arrivals[0]:.2f} s", end="")


def test_events_of_a_payment_cost_few_fetches_and_the_first_shows_the_access(trickle: Trickle) -> None:
    """WHK-75, WHK-76: at Stripe's own pace."""
    trickle.world.sandbox.pay(trickle.session_id)
    made = {event["type"]: event for event in trickle.world.objects("event")}
    trickle.slow_down()
    begun = time.monotonic()
    for type_, at in OBSERVED:
        time.sleep(max(0.0, begun + at - time.monotonic()))
        if type_ in made:
            trickle.deliver(made[type_])
    trickle.settle()
    fetches = trickle.fetches()
    assert len(fetches) <= trickle.most()
    assert trickle.closed_by_older_fetch() == []
    with trickle.database.read() as connection:
        own = sa.select(events).where(events.c.type == "checkout.session.completed")
        paid = connection.execute(own).one()
        assert connection.scalars(sa.select(subscriptions.c.status)).all() == ["active"]
    assert paid.attempts == 0
    assert fetches[-1][0] >= paid.received_at.timestamp(), "the newest first"
    assert min(began for began, _ in fetches) - paid.received_at.timestamp() < REST
