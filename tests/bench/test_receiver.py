"""The benchmark of the receivers keeps working: each of the four takes a few deliveries, and ours has them all."""

import json
import shutil
import time
from pathlib import Path

import pytest
import sqlalchemy as sa

from billing.models import events
from billing.webhooks.envelope import read_event
from billing.webhooks.signature import verify
from tests.bench.load import SECRET, read_deliveries, send, send_each, write_deliveries
from tests.bench.receiver import APPLICATIONS, Measured, receiver, table
from tests.builders import NOON

FEW = 60


@pytest.mark.parametrize("name", APPLICATIONS)
def test_every_receiver_takes_what_is_sent_to_it(name: str, tmp_path: Path) -> None:
    """Nothing is refused, and a 200 of ours is a row."""
    with receiver(name, tmp_path) as server:
        load = send_each(write_deliveries(tmp_path, "few", FEW), server.port, seconds=30, connections=8)
        assert (load.requests, load.refused, load.broken) == (FEW, 0, 0)
        assert server.cpu_seconds() > 0
        assert server.memory_bytes() > 10 * 2**20
        if server.ledger:
            with server.ledger.read() as connection:
                assert connection.scalar(sa.select(sa.func.count()).select_from(events)) == FEW


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sends_signed_deliveries(tmp_path: Path) -> None:
    """What it is told is what it sends, each once: 20,000 are more than it gets rid of in a second."""
    with receiver("onelane, SQLite", tmp_path) as server:
        load = send(write_deliveries(tmp_path, "many", 20_000), server.port, seconds=1, connections=8)
        assert (load.refused, load.broken) == (0, 0)
        assert server.ledger
        with server.ledger.read() as connection:
            rows = connection.scalar(sa.select(sa.func.count()).select_from(events)) or 0
    assert load.requests <= rows <= load.requests + 8


def test_deliveries_are_distinct_signed_and_of_a_real_size(tmp_path: Path) -> None:
    """Twelve events of each customer, each with an id of its own."""
    found = read_deliveries(write_deliveries(tmp_path, "some", 24))
    for signature, body in found:
        verify(body, signature, [SECRET], now=time.time())
        assert 4000 < len(body) < 4500
    read = [read_event(body, now=NOON) for _, body in found]
    assert len({event.event_id for event in read}) == 24
    assert len({event.customer_id for event in read}) == 2
    assert {event.status for event in read} == {"pending"}
    assert len({json.loads(body)["data"]["object"]["id"] for _, body in found}) == 24


def test_table_has_a_row_for_each() -> None:
    """With the ratios that count."""
    from tests.bench.load import Load

    rates = {"bare Flask": 8000, "the usual tutorial": 500, "onelane, SQLite": 4000}
    loads = {name: Load(rate, 1.0, 0.01, 0.05, 0.1, 0, 0) for name, rate in rates.items()}
    printed = table({name: Measured(load, 0.0002, (2**20, 2**21)) for name, load in loads.items()})
    assert "| onelane, SQLite | 4,000 | 8.0 | 0.50 | 10.0 ms | 50.0 ms | 200 µs | 1 to 2 MiB |" in printed
