"""What measurements of workers begin with: a Stripe some way off, customers, PostgreSQL, bursts, a first wake-up."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa

from app.dev.settings import sandbox_seed
from billing.catalog import load_catalog
from billing.coordination.jobs import Job, WorkEvents
from billing.coordination.queue import CeleryQueue, create_producer
from billing.coordination.redis_client import connect_redis
from billing.database import Database
from billing.models import events, projections
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.bench.storm import KEY, Stripe
from tests.support.databases import Postgres, running_postgres, sqlite_in
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment, wait_until
from tests.support.valkey import Valkey

BURST, AWAY_SECONDS = 12, 0.1
PAYLOAD = 512  # bytes; what a worker never reads


@dataclass(frozen=True, slots=True)
class Stage:
    """What a measurement of workers begins with: a Stripe that is AWAY_SECONDS away, with customers, and PostgreSQL."""

    folder: Path
    address: str
    stripe: Stripe
    customers: Sequence[str]
    postgres: Postgres

    def fresh_folder(self) -> Path:
        """An empty one."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def ledger(self, kind: str) -> AbstractContextManager[Database]:
        """An empty ledger that survives a power cut."""
        return sqlite_in(self.fresh_folder(), durable=True) if kind == "SQLite" else self.postgres.fresh()


@contextmanager
def prepared(customers: int) -> Iterator[Stage]:
    """The stage for the block, its sandbox with what the catalog sells."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        address = stack.enter_context(running_sandbox(folder))
        stripe = Stripe(address)
        ids = [str(stripe.control("POST", "/v1/customers")["id"]) for _ in range(customers)]
        stripe.slow_down(AWAY_SECONDS)
        yield Stage(folder, address, stripe, ids, stack.enter_context(running_postgres(durable=True)))


def worker_environment(ledger: Database, valkey: Valkey, address: str, *, per_second: float = 10_000) -> dict[str, str]:
    """What the processes of a measurement are told."""
    return environment(
        REDIS_URL=valkey.url,
        DATABASE_URL=ledger.url.render_as_string(hide_password=False),
        STRIPE_API_KEY=KEY,
        STRIPE_API_BASE=address,
        STRIPE_MAX_PER_SECOND=str(per_second),
        ONELANE_LOG="json",
    )


def wake(valkey: Valkey, jobs: Iterable[Job] = (WorkEvents(),)) -> None:
    """Send the first wake-up, or these jobs, as a web does."""
    with (
        connect_redis(valkey.url) as client,
        closing(create_producer(Settings(redis_url=valkey.url, _env_file=None))) as producer,
    ):
        queue = CeleryQueue(producer, client)
        for job in jobs:
            queue.send(job)


def put_bursts(ledger: Database, customers: Sequence[str]) -> list[int]:
    """A burst for each customer, as ingest records it; the rows."""
    now, mark = datetime.now(UTC), time.monotonic_ns()
    times = dict.fromkeys(("next_attempt_at", "created_at", "received_at"), now)
    each = {"livemode": False, "type": "customer.subscription.updated", "status": "pending", **times}
    made = [
        {**each, "event_id": f"evt_{mark}_{customer}_{number}", "customer_id": customer, "payload": b"x" * PAYLOAD}
        for customer in customers
        for number in range(BURST)
    ]
    with ledger.write() as connection:
        known = set(connection.scalars(sa.select(projections.c.customer_id)))
        new = [{"customer_id": customer} for customer in customers if customer not in known]
        if new:  # the usual worker's rows name one
            connection.execute(sa.insert(projections), new)
        connection.execute(sa.insert(events), made)
        mine = sa.select(events.c.id).where(events.c.event_id.startswith(f"evt_{mark}_", autoescape=True))
        return list(connection.scalars(mine.order_by(events.c.id)))


def wait_until_done(ledger: Database, rows: Sequence[int], least: int) -> int:
    """Wait until so many of the rows are done; how many are."""
    query = sa.select(sa.func.count()).where(events.c.id.between(rows[0], rows[-1]), events.c.status == "done")
    deadline = time.monotonic() + 120
    while True:
        with ledger.read() as connection:
            done = int(connection.scalar(query) or 0)
        if done >= least:
            return done
        assert time.monotonic() < deadline, f"{done} of {least} after two minutes"
        time.sleep(0.02)


@contextmanager
def running_sandbox(folder: Path, *options: str) -> Iterator[str]:
    port, seed = own_port(), folder / "seed.json"
    seed.write_text(json.dumps(sandbox_seed(load_catalog(ROOT / "catalog.toml"))), "utf-8")
    with (folder / "sandbox.log").open("wb") as log:
        process = subprocess.Popen(
            launched([sys.executable, "-m", "sandbox", "--port", str(port), "--seed", str(seed), *options]),
            cwd=ROOT,
            env=environment(),
            stdout=log,
            stderr=log,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(address), lambda: (folder / "sandbox.log").read_text("utf-8"))
        yield address
    finally:
        process.terminate()
        process.wait(10)


def _answers(address: str) -> bool:
    try:
        return bool(json.dumps(Stripe(address).control("GET", "/_sandbox/state")))
    except OSError:
        return False
