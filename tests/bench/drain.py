"""The drain: bursts of twelve events for each customer through a real worker, ours and one task for each event; and
what an event costs as the ledger grows. `python -m tests.bench.drain [customers] [rows,...]` prints the tables.

One worker process of 16 threads, Valkey, the sandbox 100 ms away. The usual worker has a message for each event, ours
one for all of them. Timed from the first event that is done to the last: no start counts.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.database import Database
from billing.models import events
from billing.process.run_with_parent import launched
from tests.bench.one_by_one import HandleEvent
from tests.bench.stage import BURST, prepared, put_bursts, wait_until_done, wake, worker_environment
from tests.bench.storm import Stripe
from tests.support.running_dev import ROOT
from tests.support.valkey import running_valkey

THREADS = 16
NEAR_SECONDS = 0.005  # as the ledger grows: what is waited for must not hide what the database takes
CUSTOMERS = 100
ROWS = (0, 100_000, 1_000_000)
TURNS = 3  # the best of them: others use this machine, too
WORKERS = {
    "one task for each event": [sys.executable, "-m", "tests.bench.one_by_one", str(THREADS)],
    "onelane": [sys.executable, "-m", "worker", "work", "--queues", "webhooks", "--concurrency", str(THREADS)],
}


@dataclass(frozen=True, slots=True)
class Drain:
    """What came of one drain."""

    events: int
    seconds: float
    fetches: int
    cpu_seconds: float

    @property
    def rate(self) -> float:
        return self.events / self.seconds

    @property
    def cpu_milliseconds(self) -> float:
        """The worker's own, for each event."""
        return self.cpu_seconds * 1000 / self.events


def main() -> None:
    """Both tables, each with the machine."""
    customers = int(sys.argv[1]) if len(sys.argv) > 1 else CUSTOMERS
    rows = [int(each) for each in sys.argv[2].split(",")] if len(sys.argv) > 2 else list(ROWS)
    started = time.monotonic()
    with prepared(customers) as stage:
        print("| 12 events for each customer | events/s | fetches | worker's CPU, ms/event | ratio |")
        print("| --- | ---: | ---: | ---: | ---: |")
        for kind in ("SQLite", "PostgreSQL"):
            usual = 0.0
            for name in WORKERS:
                with stage.ledger(kind) as ledger:
                    done = drain(ledger, stage.folder, stage.stripe, stage.address, stage.customers, WORKERS[name])
                usual = usual or done.rate
                print(
                    f"| {name}, {kind} | {done.rate:.0f} | {done.fetches} | {done.cpu_milliseconds:.2f} |"
                    f" {done.rate / usual:.1f} |",
                    flush=True,
                )
        stage.stripe.slow_down(NEAR_SECONDS)
        print(f"\n| ledger rows | {' | '.join(f'{count:,}' for count in rows)} |")
        print(f"| --- | {' | '.join('---:' for _ in rows)} |")
        for kind in ("SQLite", "PostgreSQL"):
            costs = []
            with stage.ledger(kind) as ledger:
                for count in rows:
                    fill(ledger, count)
                    turns = (
                        drain(ledger, stage.folder, stage.stripe, stage.address, stage.customers, WORKERS["onelane"])
                        for _ in range(TURNS)
                    )
                    costs.append(min(turns, key=lambda done: done.seconds))
            cells = [f"{1000 / one.rate:.2f} ms ({costs[0].rate / one.rate:.2f})" for one in costs]
            print(f"| time for each event, {kind} | {' | '.join(cells)} |")
            print(
                f"| worker's CPU, {kind} | {' | '.join(f'{one.cpu_milliseconds:.2f} ms' for one in costs)} |",
                flush=True,
            )
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, load {os.getloadavg()[0]:.1f}"
    print(f"\n{machine}; worker, sandbox and servers share the machine. {time.monotonic() - started:.0f} s.")


def drain(
    ledger: Database,
    folder: Path,
    stripe: Stripe,
    address: str,
    customers: Sequence[str],
    command: Sequence[str],
) -> Drain:
    """Put bursts into the ledger and the queue, start one worker, and wait until all of it is done."""
    stripe.forget_calls()
    with running_valkey(Path(tempfile.mkdtemp(dir=folder))) as valkey:
        rows = put_bursts(ledger, customers)
        wake(valkey, map(HandleEvent, rows) if "tests.bench.one_by_one" in command else [WorkEvents()])
        told = worker_environment(ledger, valkey, address)
        with (folder / "worker.log").open("wb") as log:
            worker = subprocess.Popen(launched(command), cwd=ROOT, env=told, stdout=log, stderr=log)
        try:
            before = wait_until_done(ledger, rows, 1)
            cpu, began = _cpu_seconds(worker.pid), time.monotonic()
            wait_until_done(ledger, rows, len(rows))
            seconds, spent = time.monotonic() - began, _cpu_seconds(worker.pid) - cpu
        finally:
            worker.terminate()
            worker.wait(30)
    fetches = sum(call["path"] == "/v1/subscriptions" for call in stripe.calls_so_far())
    return Drain(len(rows) - before, seconds, fetches, spent)


def fill(ledger: Database, count: int) -> None:
    """Let the ledger have so many rows that are done, twelve for each of their customers."""
    with ledger.read() as connection:
        there = int(connection.scalar(sa.select(sa.func.count()).select_from(events)) or 0)
    if count <= there:
        return
    numbers = (
        f"WITH RECURSIVE n(n) AS (SELECT {there + 1} UNION ALL SELECT n + 1 FROM n WHERE n < {count})"
        if ledger.is_sqlite
        else f"WITH n(n) AS (SELECT generate_series({there + 1}, {count}))"
    )
    payload, now = (
        ("zeroblob(512)", "datetime('now')") if ledger.is_sqlite else ("convert_to(repeat('x', 512), 'UTF8')", "now()")
    )
    with ledger.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO events (account, livemode, event_id, type, customer_id, status, attempts, next_attempt_at,"
            " created_at, received_at, finished_at, payload)"
            f" {numbers} SELECT '', false, 'evt_old_' || n, 'invoice.paid', 'cus_old_' || (n / {BURST}), 'done', 1,"
            f" {now}, {now}, {now}, {now}, {payload} FROM n"
        )
    if not ledger.is_sqlite:
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE events")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
