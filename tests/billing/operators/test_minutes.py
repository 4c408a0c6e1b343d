"""Counts of each minute: what the charts show, whichever process counted it."""

from datetime import datetime, timedelta

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import minute_counts
from billing.operators.minutes import COUNTED, DAY, HOUR, KEPT_MINUTES, WAITING, MinuteCounts, minute_of, read_chart
from billing.operators.presence import Heartbeat
from billing.stripe_gateway.requests import REQUESTS
from billing.webhooks.ingest import RECORDED, SIGNATURES_REFUSED
from tests.support.builders import NOON, build_event

MINUTE = timedelta(minutes=1)


def rows(database: Database) -> dict[tuple[int, str], int]:
    """What is kept, by how many minutes after noon it was."""
    with database.read() as connection:
        found = connection.execute(sa.select(minute_counts)).all()
    return {(row.minute - minute_of(NOON), row.name): row.value for row in found}


def test_what_a_process_counted_is_added_once_a_minute(database: Database) -> None:
    """OPS-160"""
    counts = MinuteCounts(database)
    counts.write_when_over(NOON)
    SIGNATURES_REFUSED.inc(3)
    RECORDED.labels("recorded").inc(2)
    RECORDED.labels("invalid_event").inc()  # no delivery of Stripe's
    REQUESTS.labels("GET /v1/customers/{id}", "200").inc()
    REQUESTS.labels("GET /v1/customers/{id}", "429").inc()
    counts.write_when_over(NOON + timedelta(seconds=50))
    assert rows(database) == {}, "the minute is not over"
    counts.write_when_over(NOON + MINUTE)
    counts.write_when_over(NOON + MINUTE + timedelta(seconds=10))
    expected = {"signatures_refused": 3, "deliveries": 2, "stripe_calls": 2, "stripe_429": 1}
    assert {name: value for (_, name), value in rows(database).items() if name in COUNTED} == expected
    assert {minute for minute, _ in rows(database)} == {0}
    counts.write_when_over(NOON + 2 * MINUTE)
    assert [key for key in rows(database) if key[0] == 1 and key[1] in COUNTED] == [], "nothing was counted since"


def test_processes_add_to_each_other_and_note_once_what_waits(database: Database, record) -> None:
    """OPS-160"""
    processes = [MinuteCounts(database) for _ in range(2)]
    SIGNATURES_REFUSED.inc()
    record(build_event())
    processes[0].write(minute_of(NOON), now=NOON + MINUTE)
    record(build_event())
    processes[1].write(minute_of(NOON), now=NOON + MINUTE)
    kept = rows(database)
    assert kept[0, "signatures_refused"] == 2
    assert kept[0, "events_pending"] == 1
    assert kept[0, "events_oldest_seconds"] == 60
    assert {name for _, name in kept if name in WAITING} == set(WAITING)


def test_counts_are_kept_for_a_week(database: Database) -> None:
    """OPS-161"""
    with database.write() as connection:
        for age in (KEPT_MINUTES, KEPT_MINUTES + 1):
            connection.execute(sa.insert(minute_counts).values(minute=minute_of(NOON) - age, name="checkouts", value=1))
    MinuteCounts(database).write(minute_of(NOON), now=NOON + MINUTE)
    assert min(minute for minute, _ in rows(database)) == -KEPT_MINUTES


@pytest.mark.parametrize("back", [1, 2], ids=["within a point", "across two"])
def test_point_is_the_sum_of_what_was_counted_and_the_most_of_what_waited(database: Database, back: int) -> None:
    """OPS-162"""
    put(database, {0: {"checkouts": 2, "events_pending": 7}, 10 - back: {"checkouts": 3, "events_pending": 5}})
    chart = read_chart(database=database, now=NOON + 20 * MINUTE, minutes=60, step=10)
    place = chart["at"].index(int(NOON.timestamp()))
    assert chart["checkouts"][place] == 5
    assert chart["events_pending"][place] == 7
    assert chart["signatures_refused"][place] == 0


def test_minute_without_any_process_is_a_gap_and_no_zero(database: Database) -> None:
    """OPS-162"""
    put(database, {0: {"events_pending": 0}, 2: {"events_pending": 0}})
    chart = read_chart(database=database, now=NOON + 3 * MINUTE, minutes=HOUR[0], step=HOUR[1])
    assert len(chart["at"]) == 60
    assert chart["deliveries"][-3:] == [0, None, 0]
    day = read_chart(database=database, now=NOON + 3 * MINUTE, minutes=DAY[0], step=DAY[1])
    assert len(day["at"]) == len(day["deliveries"]) == 144


def test_heartbeat_writes_what_its_process_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-160"""
    moments: list[datetime] = []
    monkeypatch.setattr(MinuteCounts, "write_when_over", lambda _self, now: moments.append(now))
    Heartbeat(database, kind="web").beat()
    assert len(moments) == 1
    assert moments[0].tzinfo is not None


def put(database: Database, minutes: dict[int, dict[str, int]]) -> None:
    """Counts, by how many minutes after noon."""
    values = [
        {"minute": minute_of(NOON) + minute, "name": name, "value": value}
        for minute, named in minutes.items()
        for name, value in named.items()
    ]
    with database.write() as connection:
        connection.execute(sa.insert(minute_counts), values)
