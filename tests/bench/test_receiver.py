"""The benchmark of the receivers keeps working: each of the four takes a few deliveries, and ours has them all."""

import json
import shutil
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import events
from billing.webhooks.envelope import read_event
from billing.webhooks.signature import read_signature, verify
from tests.bench.growth import Grown, fill, growth_table, memory_table, memory_verdict
from tests.bench.load import SECRET, Load, a_body, read_deliveries, send, send_each, write_deliveries
from tests.bench.receiver import Measured, table
from tests.bench.serving import APPLICATIONS, receiver
from tests.bench.written import BEGIN, END, bars, write
from tests.support.builders import NOON

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
            assert server.rows() == FEW


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_wrk_sends_signed_deliveries(tmp_path: Path) -> None:
    """What it is told is what it sends, each once: 20,000 are more than it gets rid of in a second."""
    with receiver("onelane, SQLite", tmp_path) as server:
        load = send(write_deliveries(tmp_path, "many", 20_000), server.port, seconds=1, connections=8)
        assert (load.refused, load.broken) == (0, 0)
        assert load.requests <= server.rows() <= load.requests + 8


def test_deliveries_are_distinct_signed_and_of_a_real_size(tmp_path: Path) -> None:
    """Twelve events of each customer, each with an id of its own."""
    found = read_deliveries(write_deliveries(tmp_path, "some", 24))
    for signature, body in found:
        verify(body, read_signature(signature, now=time.time()), [SECRET])
        assert 4000 < len(body) < 4500
    read = [read_event(body, now=NOON) for _, body in found]
    assert len({event.event_id for event in read}) == 24
    assert len({event.customer_id for event in read}) == 2
    assert {event.status for event in read} == {"pending"}
    assert len({json.loads(body)["data"]["object"]["id"] for _, body in found}) == 24


def test_table_has_a_row_for_each() -> None:
    """With the ratios that count, each from within its round: a slow round is slow for all."""

    def rounds(*rates: int) -> Measured:
        loads = [Load(rate, 1.0, 0.01, 20 / rate, 0.1, 0, 0) for rate in rates]
        return Measured(loads, 0.0002 * sum(rates), (2**20, 2**21))

    found = {"bare Flask": rounds(8000, 800, 8000), "the usual tutorial": rounds(500, 50, 500)}
    printed = table(found | {"onelane, SQLite": rounds(4000, 400, 4000)})
    assert "| onelane, SQLite | 2,800 | 8.0 | 0.50 | 10.0 ms | 5.0 ms | 2.00 | 200 µs | 1 to 2 MiB |" in printed


def test_ledger_is_filled_with_rows_that_are_done(database: Database) -> None:
    """As many as it says, twelve of a customer, each with a payload of a real size."""
    fill(database, 30, payload=a_body(b"0", b"0"))
    fill(database, 50, payload=a_body(b"0", b"0"))
    with database.read() as connection:
        rows = connection.execute(sa.select(events)).all()
    assert len({row.event_id for row in rows}) == len(rows) == 50
    assert {row.status for row in rows} == {"done"}
    assert len({row.customer_id for row in rows}) == 5
    assert all(len(row.payload) > 4000 for row in rows)


def test_tables_of_growth_and_memory_say_the_ratios() -> None:
    """To an empty ledger, and to the memory after the warm-up."""
    grown = growth_table({"onelane, SQLite": [Grown(0, 4e-4, 1.0, 3e-4, 1.0), Grown(10**6, 4.4e-4, 1.1, 3e-4, 1.0)]})
    assert "| time for each event, onelane, SQLite | 400 µs (1.00) | 440 µs (1.10) |" in grown
    steps = [(number * 1000, (100 + number % 4) * 2**20) for number in range(1, 9)]
    assert memory_table({"onelane, SQLite": steps}).endswith("| 100.0 MiB | 2.0 MiB |")
    assert memory_verdict({"onelane, SQLite": steps}) == (
        "onelane, SQLite: at most 103 MiB (180 asked), from 1,000 to 8,000 deliveries within 2.0% (10% asked): yes."
    )
    for wrong in ([(1, 170 * 2**20), (2, 181 * 2**20)], [(1, 100 * 2**20), (2, 111 * 2**20)]):
        assert memory_verdict({"onelane, SQLite": wrong}).endswith("NO.")


def test_figures_replace_the_old_ones_in_the_docs(tmp_path: Path) -> None:
    """Between the marks and nowhere else; the chart names every receiver and its rate."""
    page = tmp_path / "benchmarks.md"
    page.write_text(f"# Before\n{BEGIN}\nold\n{END}\nAfter\n", "utf-8")
    chart = bars("Rates", {"bare Flask": 6000.0, "onelane, SQLite": 3000.0})
    for _ in range(2):
        write("new", chart, docs=tmp_path)
    assert page.read_text("utf-8") == f"# Before\n{BEGIN}\n\nnew\n\n{END}\nAfter\n"
    drawn = ElementTree.fromstring((tmp_path / "receiver.svg").read_text("utf-8"))
    texts = [element.text for element in drawn.iter() if element.tag.endswith("text")]
    assert texts == ["Rates", "bare Flask", "6,000", "onelane, SQLite", "3,000"]
    widths = [float(element.attrib["width"]) for element in drawn.iter() if element.tag.endswith("rect")]
    assert widths[0] == 2 * widths[1]
