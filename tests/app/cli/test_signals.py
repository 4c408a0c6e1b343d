"""SIGTERM and SIGHUP as the first process of a container gets them: nothing is killed, and nothing goes on."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations.upgrade import ADVISORY_LOCK, upgrade
from billing.process.run_with_parent import launched
from tests.support.databases import Postgres
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, descendants, environment
from tests.support.valkey import Valkey, running_valkey, wait_until

# A process in a namespace of its own is the first one there, as in a container.
USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
FIRST = ["unshare", *USER, "--pid", "--fork", "--kill-child"]


@pytest.fixture(scope="module", autouse=True)
def namespaces() -> None:
    if not shutil.which("unshare") or subprocess.run([*FIRST, "true"], capture_output=True).returncode:
        pytest.skip("no process namespace here: nothing can be started as process 1")


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def hanging() -> Iterator[int]:
    """A port where a connection is taken and nothing is said."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening.getsockname()[1]


class Waiting:
    """A command that is process 1 of its namespace."""

    def __init__(self, folder: Path, *words: str, **settings: str) -> None:
        self.log = folder / "log"
        common = {"PYTHONPATH": str(ROOT), "CATALOG": str(ROOT / "catalog.toml"), "ONELANE_LOG": "json"}
        line = [*FIRST, sys.executable, "-P", "-m", "onelane", *words]
        with self.log.open("wb") as output:
            self.outer = subprocess.Popen(
                launched(line), cwd=folder, env=environment(**{**common, **settings}), stdout=output, stderr=output
            )

    @property
    def said(self) -> str:
        return self.log.read_text("utf-8", "replace")

    def until(self, sign: Callable[[], bool], what: str) -> None:
        wait_until(lambda: sign() or self.outer.poll() is not None, what, seconds=60)
        assert self.outer.poll() is None, self.said

    def ends_by(self, number: int, code: int) -> None:
        """Signal it, and see it end by itself."""
        (inner,) = descendants(self.outer.pid, deep=False)
        os.kill(inner, number)
        try:
            assert self.outer.wait(60) == code, self.said
        finally:
            self.outer.kill()
        assert "Traceback" not in self.said


BOTH = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])


@BOTH
@pytest.mark.parametrize("waits_for", ["Stripe", "a Stripe that hangs", "the database", "a database that hangs"])
def test_worker_that_waits_hears_the_signal(
    waits_for: str, number: int, valkey: Valkey, hanging: int, tmp_path: Path
) -> None:
    """OPS-133, OPS-134, faults row 107."""
    url = f"sqlite:///{tmp_path}/ledger"
    ledger = Database(url)
    upgrade(ledger)
    ledger.close()
    nobody = {"DATABASE_URL": url, "STRIPE_API_BASE": "http://127.0.0.1:1"}
    waits: dict[str, dict[str, str]] = {
        "Stripe": nobody,
        "a Stripe that hangs": {**nobody, "STRIPE_API_BASE": f"http://127.0.0.1:{hanging}"},
        "the database": {**nobody, "DATABASE_URL": "postgresql://a@127.0.0.1:1/b"},
        "a database that hangs": {**nobody, "DATABASE_URL": f"postgresql://a@127.0.0.1:{hanging}/b"},
    }
    worker = Waiting(tmp_path, "worker", REDIS_URL=valkey.url, STRIPE_API_KEY="sk_test_nobody", **waits[waits_for])
    if "hangs" in waits_for:
        worker.until(lambda: _has_peer(hanging), "it asks who hangs")
    else:
        worker.until(lambda: '"worker.waits"' in worker.said, "it waits")
    worker.ends_by(number, 128 + number)


@BOTH
def test_migration_that_waits_for_another_hears_the_signal(number: int, postgres: Postgres, tmp_path: Path) -> None:
    """OPS-133, faults row 107: the lock is somebody else's."""
    with postgres.fresh() as ledger, ledger.write() as connection:
        connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        url = ledger.url.render_as_string(hide_password=False)
        waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
        migration = Waiting(tmp_path, "db", "upgrade", DATABASE_URL=url)
        migration.until(lambda: connection.execute(sa.text(waits)).scalar_one() == 1, "it waits for the lock")
        migration.ends_by(number, 128 + number)


@BOTH
@pytest.mark.parametrize("command", ["web", "beat"])
def test_process_that_serves_ends_in_order(command: str, number: int, valkey: Valkey, tmp_path: Path) -> None:
    """OPS-134, OPS-14, faults row 107: SIGHUP is no order to load anew."""
    url, port = f"sqlite:///{tmp_path}/ledger", own_port()
    ledger = Database(url)
    upgrade(ledger)
    ledger.close()
    settings: dict[str, Any] = {"DATABASE_URL": url, "REDIS_URL": valkey.url, "PORT": str(port)}
    if command == "web":
        process = Waiting(tmp_path, "web", **settings)
        process.until(lambda: _listens(port), "it listens")
    else:
        process = Waiting(tmp_path, "beat", **settings)
        process.until(lambda: '"beat.started"' in process.said, "it sends")
    process.ends_by(number, 0)


def _has_peer(port: int) -> bool:
    listed = Path("/proc/net/tcp").read_text().split("\n")[1:]
    mine = f":{port:04X}"
    return any(mine in line.split()[1] and line.split()[3] == "01" for line in listed if line.strip())


def _listens(port: int) -> bool:
    with socket.socket() as looking:
        return looking.connect_ex(("127.0.0.1", port)) == 0
