"""`make scale`: the drain with one, two and four workers, and with workers that are added and killed in the middle.

PostgreSQL with fsync, a real Valkey, a Stripe that takes 100 ms for a call. Each worker has two threads, so that it
waits for Stripe and not for this machine's two cores; what a core carries is measured by `make bench ARGS=drain`.
"""

import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from subprocess import Popen

from billing.coordination.jobs import WorkEvents
from billing.coordination.queue import CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.bench.drain import AWAY_SECONDS, BURST, put_bursts, running_sandbox, wait_until_done
from tests.bench.storm import KEY, Stripe
from tests.support.databases import running_postgres
from tests.support.running_dev import ROOT, environment, wait_until
from tests.support.valkey import Valkey, running_valkey

THREADS = 2
CUSTOMERS = 200
SIZES = (1, 2, 4)


class Workers:
    """Worker processes that come and go."""

    def __init__(self, ledger: Database, valkey: Valkey, address: str, folder: Path) -> None:
        self._environment = environment(
            REDIS_URL=valkey.url,
            DATABASE_URL=ledger.url.render_as_string(hide_password=False),
            STRIPE_API_KEY=KEY,
            STRIPE_API_BASE=address,
            STRIPE_MAX_PER_SECOND="10000",
            ONELANE_LOG="json",
        )
        self._folder, self._started = folder, 0
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
            alive = self._folder / f"alive-{self._started}"
            command = [
                sys.executable,
                "-m",
                "worker",
                "work",
                "--queues",
                "webhooks,maintenance",
                "--concurrency",
                str(THREADS),
            ]
            self.running.append(self._start([*command, "--alive-file", str(alive)]))
            files.append(alive)
        wait_until(lambda: all(file.exists() for file in files), lambda: f"{files} of the workers")

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


def drained(ledger: Database, valkey: Valkey, workers: Workers, customers: Sequence[str], *, kill: int = 0) -> float:
    """Events a second of a drain by the running workers; in the middle of it `kill` of them die, and others come."""
    rows = put_bursts(ledger, customers)
    client = connect_redis(valkey.url)
    producer = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    began = time.monotonic()
    CeleryQueue(producer, client).send(WorkEvents())
    if kill:
        wait_until_done(ledger, rows, len(rows) // 4)
        workers.kill(kill)
        workers.add(kill)
    wait_until_done(ledger, rows, len(rows))
    seconds = time.monotonic() - began
    producer.close()
    client.close()
    return len(rows) / seconds


def main() -> None:
    """Print the table and the machine."""
    started = time.monotonic()
    customers = int(sys.argv[1]) if len(sys.argv) > 1 else CUSTOMERS
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_sandbox(folder))
        stripe = Stripe(address)
        ids = [str(stripe.control("POST", "/v1/customers")["id"]) for _ in range(customers)]
        stripe.slow_down(AWAY_SECONDS)
        postgres = stack.enter_context(running_postgres(durable=True))
        print(f"| workers of {THREADS} threads | events/s | of linear |\n| --- | ---: | ---: |")
        alone = 0.0
        for size in SIZES:
            with postgres.fresh() as ledger, running_valkey(Path(tempfile.mkdtemp(dir=folder))) as valkey:
                workers = Workers(ledger, valkey, address, Path(tempfile.mkdtemp(dir=folder)))
                stack.callback(workers.end)
                workers.add(size)
                rate = drained(ledger, valkey, workers, ids)
                alone = alone or rate
                print(f"| {size} | {rate:.0f} | {rate / (alone * size):.2f} |", flush=True)
                if size == SIZES[-1]:
                    rate = drained(ledger, valkey, workers, ids, kill=2)
                    seconds = len(ids) * BURST / rate
                    print(f"| {size}; two killed and replaced, all done after {seconds:.0f} s | {rate:.0f} | |")
                workers.end()
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(
        f"\n{customers} customers with {BURST} events each, all of them done each time. {machine}; workers, sandbox and"
        f" servers share the machine. {time.monotonic() - started:.0f} s."
    )


if __name__ == "__main__":
    main()
