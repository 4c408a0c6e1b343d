"""`make scale`: the drain with one, two and four workers, with workers killed in the middle, and with a budget.

PostgreSQL with fsync, a real Valkey, a Stripe that takes 100 ms for a call. Each worker has two threads, so that it
waits for Stripe and not for this machine's two cores; what a core carries is measured by `make bench ARGS=drain`. Then
once more while buyers come for the first time, one after the other, and wait for their payment page.
"""

import os
import platform
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from subprocess import Popen
from typing import Any

from billing.catalog import load_catalog
from billing.checkout.requests import CheckoutRequest, read_checkout, record_checkout
from billing.clock import SYSTEM_CLOCK
from billing.coordination.queue import CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.coordination.wakeups import RedisWakeups, wait_while
from billing.database import Database
from billing.models import CheckoutStatus
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.bench.stage import BURST, Stage, prepared, put_bursts, wait_until_done, wake, worker_environment
from tests.bench.storm import Json
from tests.support.running_dev import ROOT, wait_until
from tests.support.valkey import Valkey, running_valkey

THREADS = 2
CUSTOMERS = 200
SIZES = (1, 2, 4)
PER_SECOND = 40
EVERY_SECONDS = 1.0  # a buyer comes
LONGEST_SECONDS = 60.0
UNLIMITED = 10_000
SHOP = "https://app.example"
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Scaled:
    """One drain: events a second, how long each buyer waited, and the calls to Stripe meanwhile."""

    rate: float
    waits: list[float]
    calls: list[Json]

    @property
    def busiest_second(self) -> int:
        """The most calls that began within any second, as the sandbox saw them."""
        begun = sorted(call["at"] - call["seconds"] for call in self.calls)
        return max(sum(one <= other < one + 1 for other in begun) for one in begun)

    @property
    def calls_a_second(self) -> float:
        """On the whole."""
        begun = sorted(call["at"] - call["seconds"] for call in self.calls)
        return len(begun) / (begun[-1] - begun[0])


class Workers:
    """Worker processes that come and go, each for all queues."""

    def __init__(self, settings: dict[str, str], folder: Path) -> None:
        self._environment, self._folder, self._started = settings, folder, 0
        self.running: list[Popen[bytes]] = []
        self._beat = self._start([sys.executable, "-m", "worker", "beat"])

    def _start(self, command: Sequence[str]) -> "Popen[bytes]":
        with (self._folder / "log").open("ab") as log:
            return Popen(launched(command), cwd=ROOT, env=self._environment, stdout=log, stderr=log)

    def add(self, count: int) -> None:
        """Start so many more, and wait until each consumes."""
        files = []
        for _ in range(count):
            self._started += 1
            files.append(self._folder / f"alive-{self._started}")
            command = [sys.executable, "-m", "worker", "work", "--concurrency", str(THREADS)]
            self.running.append(self._start([*command, "--alive-file", str(files[-1])]))
        wait_until(lambda: all(file.exists() for file in files), lambda: f"{files} of the workers", 60)

    def kill(self, count: int) -> None:
        """End so many with SIGKILL, in the middle of whatever they do."""
        for process in self.running[:count]:
            process.kill()
            process.wait(10)
        del self.running[:count]

    def end(self) -> None:
        """End all in order."""
        for process in (self._beat, *self.running):
            process.terminate()
        for process in (self._beat, *self.running):
            process.wait(60)
        self.running.clear()


class Installation:
    """A ledger, a Valkey and workers that ask the stage's Stripe."""

    def __init__(self, stage: Stage, ledger: Database, valkey: Valkey, workers: Workers) -> None:
        self._stage, self._ledger, self._valkey, self.workers = stage, ledger, valkey, workers

    def drain(self, *, buyers: bool = True, kill: int = 0) -> Scaled:
        """A burst for each customer, worked to its end; in the middle of it `kill` workers die, and others come."""
        rows = put_bursts(self._ledger, self._stage.customers)
        self._stage.stripe.forget_calls()
        with self._buyers() if buyers else nullcontext(list[float]()) as waits:
            began = time.monotonic()
            wake(self._valkey)
            if kill:
                wait_until_done(self._ledger, rows, len(rows) // 4)
                self.workers.kill(kill)
                self.workers.add(kill)
            wait_until_done(self._ledger, rows, len(rows))
            seconds = time.monotonic() - began
        return Scaled(len(rows) / seconds, waits, self._stage.stripe.calls_so_far())

    @contextmanager
    def _buyers(self) -> Iterator[list[float]]:
        """First checkouts, one every EVERY_SECONDS; the seconds that each took to its page."""
        waits, threads, ended = list[float](), list[threading.Thread](), threading.Event()
        with connect_redis(self._valkey.url) as client:
            handed: dict[str, Any] = {
                "database": self._ledger,
                "queue": CeleryQueue(create_producer(Settings(redis_url=self._valkey.url, _env_file=None)), client),
                "wakeups": RedisWakeups(client),
            }

            def come() -> None:
                while not ended.wait(EVERY_SECONDS):
                    threads.append(threading.Thread(target=lambda: waits.append(first_checkout(**handed))))
                    threads[-1].start()

            threads.append(threading.Thread(target=come))
            threads[0].start()
            yield waits
            ended.set()
            for thread in threads:  # `come` is the first: it adds no more once it has ended
                thread.join()


def first_checkout(*, database: Database, queue: CeleryQueue, wakeups: RedisWakeups) -> float:
    """A new buyer's: the seconds until their payment page."""
    catalog, user_id = load_catalog(ROOT / "catalog.toml"), f"buyer-{next(_numbers)}"
    request = CheckoutRequest("commit", f"{SHOP}/ok", f"{SHOP}/no")
    places: Any = {"database": database, "queue": queue, "clock": SYSTEM_CLOCK, "catalog": catalog}
    began = time.monotonic()
    asked = record_checkout(
        request, user_id=user_id, email=None, idempotency_key=None, redirect_origins=[SHOP], **places
    )
    id_ = asked.checkout_id
    look = partial(read_checkout, id_, user_id=user_id, database=database, clock=SYSTEM_CLOCK)
    view = wait_while(
        lambda view: view.status is CheckoutStatus.PENDING, look, id_, wakeups=wakeups, seconds=LONGEST_SECONDS
    )
    assert view.status is CheckoutStatus.OPEN, view
    return time.monotonic() - began


@contextmanager
def installed(stage: Stage, *, workers: int, per_second: float) -> Iterator[Installation]:
    """An installation of its own, with an empty ledger."""
    with stage.postgres.fresh() as ledger, running_valkey(stage.fresh_folder()) as valkey:
        settings = worker_environment(ledger, valkey, stage.address, per_second=per_second)
        running = Workers(settings, stage.fresh_folder())
        try:
            running.add(workers)
            yield Installation(stage, ledger, valkey, running)
        finally:
            running.end()


def main() -> None:
    """Print both tables and the machine."""
    started = time.monotonic()
    customers = int(sys.argv[1]) if len(sys.argv) > 1 else CUSTOMERS
    with prepared(customers) as stage:
        print(f"| workers of {THREADS} threads | events/s | of linear | a buyer's longest wait, median |")
        print("| --- | ---: | ---: | ---: |")
        alone = 0.0
        for size in SIZES:
            with installed(stage, workers=size, per_second=UNLIMITED) as installation:
                rate, waits = installation.drain(buyers=False).rate, waited(installation.drain())
                alone = alone or rate
                print(f"| {size} | {rate:.0f} | {rate / (alone * size):.2f} | {waits} |", flush=True)
                if size == SIZES[-1]:
                    killed = installation.drain(kill=2)
                    seconds = customers * BURST / killed.rate
                    print(
                        f"| {size}; two killed and replaced, all done after {seconds:.0f} s | {killed.rate:.0f} | |"
                        f" {waited(killed)} |"
                    )
        print(f"\n| `STRIPE_MAX_PER_SECOND={PER_SECOND}` | calls/s | busiest second | a buyer's longest wait, median |")
        print("| --- | ---: | ---: | ---: |")
        for size in (SIZES[0], SIZES[-1]):
            with installed(stage, workers=size, per_second=PER_SECOND) as installation:
                done = installation.drain()
                figures = f"{done.calls_a_second:.1f} | {done.busiest_second}"
                print(f"| {size} workers | {figures} | {waited(done)} |", flush=True)
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(
        f"\n{customers} customers with {BURST} events each, all of them done each time; a new buyer every"
        f" {EVERY_SECONDS} s, all served. {machine}; workers, sandbox and servers share the machine."
        f" {time.monotonic() - started:.0f} s."
    )


def waited(done: Scaled) -> str:
    """Of the buyers."""
    waits = sorted(done.waits)
    return f"{waits[-1]:.1f} s, {waits[len(waits) // 2]:.1f} s" if waits else ""


if __name__ == "__main__":
    main()
