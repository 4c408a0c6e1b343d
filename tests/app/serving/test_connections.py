"""How many connections to Redis a process of the web has, however many buyers wait: counted by the server."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from billing.coordination.queue import PRODUCERS
from billing.coordination.redis_client import POOL_SIZE
from billing.process.run_with_parent import launched
from tests.kills.asking import SERVER_KEY, answers, ask, in_background
from tests.support.databases import sqlite_in
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment
from tests.support.valkey import Valkey, running_valkey, wait_until

BUYERS = 100
SHOP = "https://app.example.com"
# A connection of a producer has one for its channel beside the one that it sends by.
MOST = POOL_SIZE + 2 * PRODUCERS + 2  # 2: to see whether the broker is there


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def web(valkey: Valkey, tmp_path: Path) -> Iterator[str]:
    """The address of `onelane web`; there is no worker."""
    port = own_port()
    with sqlite_in(tmp_path) as ledger:
        url = str(ledger.url)
    settings = environment(
        PYTHONPATH=str(ROOT),
        DATABASE_URL=url,
        REDIS_URL=valkey.url,
        PORT=str(port),
        CATALOG=str(ROOT / "catalog.toml"),
        AUTH_API_KEYS=SERVER_KEY,
        REDIRECT_ORIGINS=SHOP,
        ONELANE_LOG="json",
    )
    with (tmp_path / "log").open("wb") as log:
        command = launched([sys.executable, "-P", "-m", "onelane", "web"])
        process = subprocess.Popen(command, cwd=tmp_path, env=settings, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{address}/readyz"), "the web is ready", 60)
        yield address
    finally:
        process.terminate()
        process.wait(60)


def test_web_with_a_hundred_buyers_has_a_few_connections(web: str, valkey: Valkey) -> None:
    """OPS-123, fault 112: while they wait for an answer, and while they all come at once."""

    def buy(number: int) -> int:
        body = {
            "user_id": f"user-{number}",
            "plan": "standard",
            "success_url": f"{SHOP}/ok",
            "cancel_url": f"{SHOP}/no",
        }
        gate.wait(60)
        return ask(f"{web}/v1/checkouts", "POST", body, Prefer="wait=2").status

    gate = threading.Barrier(BUYERS)
    with redis.Redis.from_url(valkey.url) as watching:
        waiting = [in_background(lambda number=number: buy(number)) for number in range(BUYERS)]  # type: ignore[misc]
        over = threading.Event()
        counts = [0]

        def count() -> None:
            while not over.is_set():
                counts.append(len(watching.client_list()) - 1)

        counting = in_background(count)
        statuses = {one() for one in waiting}
        over.set()
        counting()
    print(f"{max(counts)} connections at the most")
    assert statuses == {202}
    assert max(counts) <= MOST
