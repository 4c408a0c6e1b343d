"""Twelve events of one customer that arrive over two seconds, through a real worker: how many fetches they cost.

`python -m tests.bench.trickle` prints it for one task for each event and for ours, on both databases. The worker is one
process of 16 threads with Celery and Valkey, the sandbox 100 ms away; deliveries are received as the web receives them.
"""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from billing.clock import SystemClock
from billing.coordination.jobs import Job
from billing.coordination.queue import CeleryQueue, Queue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.models import events
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.bench.drain import WORKERS
from tests.bench.one_by_one import HandleEvent
from tests.bench.stage import AWAY_SECONDS, BURST, running_sandbox, worker_environment
from tests.bench.storm import Stripe
from tests.support.builders import SECRET, build_event, build_subscription, deliver
from tests.support.databases import running_postgres, sqlite_in
from tests.support.receiving import receive
from tests.support.running_dev import ROOT
from tests.support.valkey import running_valkey, wait_until

SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Trickle:
    """What came of it."""

    window: float  # seconds from the first arrival to the last
    fetches: int
    first_seconds: float  # until the first event was done
    last_seconds: float  # from the last arrival until all were


def main() -> None:
    """A line for each worker and database."""
    print("| worker | ledger | fetches | first done after | all done after the last |\n|---|---|---:|---:|---:|")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_sandbox(folder))
        ledgers = {
            "SQLite": stack.enter_context(sqlite_in(folder, durable=True)),
            "PostgreSQL": stack.enter_context(stack.enter_context(running_postgres(durable=True)).fresh()),
        }
        for worker in ("one task for each event", "onelane"):
            for name, ledger in ledgers.items():
                found = trickle(ledger, folder, address, WORKERS[worker], coalesced=worker == "onelane")
                times = f"{found.first_seconds * 1000:.0f} ms | {found.last_seconds * 1000:.0f} ms"
                print(f"| {worker} | {name} | {found.fetches} | {times} |", flush=True)


def trickle(ledger: Database, folder: Path, address: str, command: Sequence[str], *, coalesced: bool = True) -> Trickle:
    """Let them arrive while one worker runs. Without `coalesced`, each event is a message, for the usual worker."""
    stripe = Stripe(address)
    customer = str(stripe.control("POST", "/v1/customers")["id"])
    stripe.slow_down(AWAY_SECONDS)
    with (
        running_valkey(Path(tempfile.mkdtemp(dir=folder))) as valkey,
        (folder / "worker.log").open("wb") as log,
        closing(create_producer(Settings(redis_url=valkey.url, _env_file=None))) as producer,
        connect_redis(valkey.url) as client,
    ):
        told = worker_environment(ledger, valkey, address)
        worker = subprocess.Popen(launched(command), cwd=ROOT, env=told, stdout=log, stderr=log)
        queue: Queue = CeleryQueue(producer, client)
        if not coalesced:
            queue = EachEvent(queue, ledger)
        try:
            _warm(ledger, queue, stripe)
            stripe.forget_calls()
            arrivals = _let_arrive(ledger, queue, customer)
            wait_until(lambda: len(_done(ledger, customer)) == BURST, "all of them done", 30)
        finally:
            worker.terminate()
            worker.wait(30)
    done = _done(ledger, customer)
    fetches = sum(call["path"] == "/v1/subscriptions" for call in stripe.calls_so_far())
    return Trickle(
        (arrivals[-1] - arrivals[0]).total_seconds(),
        fetches,
        (min(done) - arrivals[0]).total_seconds(),
        (max(done) - arrivals[-1]).total_seconds(),
    )


class EachEvent:
    """A queue that names the newest event, as the usual worker needs it."""

    def __init__(self, queue: Queue, ledger: Database) -> None:
        self._queue, self._ledger = queue, ledger

    def send(self, _job: Job, *, delay_seconds: float = 0) -> bool:
        with self._ledger.read() as connection:
            newest = int(connection.scalar(sa.select(sa.func.max(events.c.id))) or 0)
        return self._queue.send(HandleEvent(newest), delay_seconds=delay_seconds)

    def taken(self, job: Job) -> None:
        self._queue.taken(job)

    def trouble(self) -> str | None:
        return self._queue.trouble()


def _warm(ledger: Database, queue: Queue, stripe: Stripe) -> None:
    """Until the worker has done something for somebody else."""
    other = str(stripe.control("POST", "/v1/customers")["id"])
    _receive(ledger, queue, other)
    wait_until(lambda: len(_done(ledger, other)) == 1, "a worker that works", 60)


def _let_arrive(ledger: Database, queue: Queue, customer: str) -> list[datetime]:
    begun, arrivals = time.monotonic(), []
    for number in range(BURST):
        time.sleep(max(0.0, begun + number * SECONDS / BURST - time.monotonic()))
        _receive(ledger, queue, customer)
        arrivals.append(datetime.now(UTC))
    return arrivals


def _receive(ledger: Database, queue: Queue, customer: str) -> None:
    clock = SystemClock()
    event = build_event(subject=build_subscription(customer=customer), id=f"evt_{time.monotonic_ns()}")
    body, header = deliver(event, at=clock.now())
    receive(body, header, secrets=[SECRET], database=ledger, queue=queue, clock=clock, max_bytes=1 << 20)


def _done(ledger: Database, customer: str) -> list[datetime]:
    """When each of the customer's events was done."""
    own = sa.select(events.c.finished_at).where(events.c.customer_id == customer, events.c.status == "done")
    with ledger.read() as connection:
        return list(connection.scalars(own))


if __name__ == "__main__":
    main()
