"""The start of `python -m worker work`: it waits for what does not answer, and refuses what is wrong."""

import os
import subprocess
import sys
from pathlib import Path

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.process.run_with_parent import launched
from tests.worker.conftest import ROOT, Valkey, wait_until


def test_worker_waits_for_a_stripe_that_does_not_answer(valkey: Valkey, tmp_path: Path) -> None:
    """OPS-19"""
    url = f"sqlite:///{tmp_path}/ledger"
    ledger = Database(url)
    upgrade(ledger)
    ledger.close()
    environment = {
        **os.environ,
        "DATABASE_URL": url,
        "REDIS_URL": valkey.url,
        "STRIPE_API_KEY": "sk_test_nobody",
        "STRIPE_API_BASE": "http://127.0.0.1:1",
        "CATALOG": str(ROOT / "catalog.toml"),
    }
    log = tmp_path / "log"
    alive = tmp_path / "alive"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            launched([sys.executable, "-m", "worker", "work", "--alive-file", str(alive)]),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: log.read_text("utf-8").count('"worker.waits"') >= 2, "it says that it waits, again")
        assert worker.poll() is None
        assert "worker.started" not in log.read_text("utf-8"), "it takes no message that it could not work"
    finally:
        worker.terminate()
        worker.wait(10)
