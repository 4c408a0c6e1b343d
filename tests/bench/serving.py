"""The four receivers as running servers: bare Flask, the usual tutorial, and ours on SQLite and on PostgreSQL.

All under `app.server` with the same settings. Every 200 of ours is a durable commit: SQLite with synchronous=FULL,
PostgreSQL with fsync.
"""

import http.client
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from billing.database import Database
from billing.models import events
from billing.process.run_with_parent import launched
from tests.bench.load import SECRET
from tests.support.databases import Postgres, running_postgres, sqlite_in
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, descendants, environment, wait_until
from tests.support.valkey import running_valkey

BARE, TUTORIAL, SQLITE, POSTGRESQL = "bare Flask", "the usual tutorial", "onelane, SQLite", "onelane, PostgreSQL"
APPLICATIONS = {
    BARE: "tests.bench.bare",
    TUTORIAL: "tests.bench.tutorial",
    SQLITE: "app.serving.server",
    POSTGRESQL: "app.serving.server",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A receiver that runs: its port and its processes."""

    port: int
    pids: tuple[int, ...]
    ledger: Database | None = None

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Resident memory of its processes; what a fork shares with its parent counts once (Pss)."""
        rolled = "".join(Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in self.pids)
        return 1024 * sum(int(line.split()[1]) for line in rolled.splitlines() if line.startswith("Pss:"))

    def rows(self) -> int:
        """How many events are in its ledger."""
        assert self.ledger, "it has none"
        with self.ledger.read() as connection:
            return int(connection.scalar(sa.select(sa.func.count()).select_from(events)) or 0)


@contextmanager
def new_ledger(name: str, folder: Path, postgres: Postgres | None = None) -> Iterator[Database | None]:
    """An empty ledger for ours, of that server or of one of its own; None for the others."""
    with ExitStack() as stack:
        if name == SQLITE:
            yield stack.enter_context(sqlite_in(folder, durable=True))
        elif name == POSTGRESQL:
            server = postgres or stack.enter_context(running_postgres(durable=True))
            yield stack.enter_context(server.fresh())
        else:
            yield None


@contextmanager
def receiver(name: str, folder: Path, postgres: Postgres | None = None) -> Iterator[Server]:
    """Start one of the four in a folder of its own, with everything it needs, each new."""
    folder.mkdir(exist_ok=True)
    with running_valkey(folder / "valkey") as valkey, new_ledger(name, folder, postgres) as ledger:
        settings = {
            "REDIS_URL": valkey.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "AUTH_JWT_SECRET": "nobody asks for a checkout here, whatever",
            "CATALOG": str(ROOT / "catalog.toml"),
        }
        if ledger:
            settings["DATABASE_URL"] = ledger.url.render_as_string(hide_password=False)
        with served(APPLICATIONS[name], folder, settings) as (port, pids):
            yield Server(port, pids, ledger)


@contextmanager
def served(application: str, folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Serve an application in processes of its own; their port and their ids."""
    port, log = own_port(), folder / "log"
    command = launched([sys.executable, "-m", "tests.bench.serve", application, str(port)])
    with log.open("wb") as output:
        process = subprocess.Popen(
            launched(command), cwd=ROOT, env=environment(**settings), stdout=output, stderr=output
        )
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, lambda: log.read_text("utf-8"))
        assert process.poll() is None, log.read_text("utf-8")
        yield port, (process.pid, *descendants(process.pid))
    finally:
        process.terminate()
        process.wait(40)


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/webhooks/stripe")
        return connection.getresponse().status == 405
    except OSError:
        return False
    finally:
        connection.close()
