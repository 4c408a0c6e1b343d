"""Pruning: what is too old goes, whatever stops it in between, and nothing that is still needed."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.maintenance import prune as pruning
from billing.maintenance.prune import prune
from billing.models import customers, events
from tests.support.builders import NOON, build_event, build_subscription
from tests.support.crashing import Crash, Fuse, FusedDatabase


@pytest.fixture
def put(database):
    """An event of that age, in that status; its row."""

    def put(days, status="done", **values):
        age = NOON - timedelta(days=days)
        row = {"livemode": False, "event_id": f"evt_{days}_{status}", "type": "invoice.paid", "status": status}
        times = {"next_attempt_at": age, "created_at": age, "received_at": age}
        with database.write() as connection:
            made = sa.insert(events).values({**row, **times, "payload": b"{}", **values}).returning(events.c.id)
            return connection.scalar(made)

    return put


@pytest.fixture
def prune_once(database, clock):
    """Prune as beat does."""

    def prune_once(**instead):
        return prune(**{"database": database, "clock": clock, "payload_days": 30, "row_days": 365, **instead})

    return prune_once


@pytest.fixture
def kept(database):
    """What is left: age and status, and whether it has its payload."""

    def kept():
        with database.read() as connection:
            rows = connection.execute(sa.select(events.c.event_id, events.c.payload).order_by(events.c.id))
            return {row.event_id.removeprefix("evt_"): row.payload is not None for row in rows}

    return kept


def test_payloads_go_after_thirty_days_and_rows_after_a_year(put, prune_once, kept):
    """LED-20, LED-21."""
    for days in (400, 366, 364, 31, 29, 0):
        put(days)
    row = prune_once()
    assert kept() == {"364_done": False, "31_done": False, "29_done": True, "0_done": True}
    assert (row.report, row.unfinished) == ({"payloads": 2, "rows": 2, "checkouts": 0}, False)


@pytest.mark.parametrize("status", ["done", "ignored", "rejected"])
def test_whatever_is_finished_goes(put, prune_once, kept, status):
    """LED-20, LED-21."""
    put(400, status)
    put(40, status)
    prune_once()
    assert kept() == {f"40_{status}": False}


def test_what_is_still_to_be_worked_keeps_its_payload_and_what_is_dead_its_row(put, prune_once, kept):
    """LED-20, LED-21: a person has to look at what is dead; whose it was, Stripe still knows."""
    put(400, "pending")
    put(400, "dead")
    prune_once()
    assert kept() == {"400_pending": True, "400_dead": False}


def test_very_many_rows_are_pruned_in_pieces(put, prune_once, kept, monkeypatch):
    """LED-22."""
    monkeypatch.setattr(pruning, "BATCH", 7)
    for number in range(50):
        put(40 if number < 40 else 1, event_id=f"evt_{number}_done")
    row = prune_once()
    assert row.report == {"payloads": 40, "rows": 0, "checkouts": 0}
    assert list(kept().values()) == [False] * 40 + [True] * 10


def test_rows_that_a_clock_dated_too_young_do_not_hide_what_is_behind_them(put, prune_once, kept, monkeypatch):
    """LED-20: a piece in which one old row is left goes on to the next piece."""
    monkeypatch.setattr(pruning, "BATCH", 2)
    put(1)
    put(400, "dead")
    put(50)
    put(2)
    prune_once()
    assert kept() == {"1_done": True, "400_dead": False, "50_done": False, "2_done": True}


@pytest.mark.parametrize("steps", range(1, 20))
def test_killed_at_any_point_the_next_one_goes_on(put, prune_once, kept, database, clock, monkeypatch, steps):
    """LED-22."""
    monkeypatch.setattr(pruning, "BATCH", 3)
    for number in range(10):
        put(400 if number < 5 else 40, event_id=f"evt_{number}_done")
    try:
        prune_once(database=FusedDatabase(database, Fuse(steps)))
    except Crash:
        assert prune_once(when_due=True) is None or steps == 1, "whoever was killed holds its lease for a minute"
        clock.advance(seconds=61)
        prune_once(when_due=True)
    assert kept() == {f"{number}_done": False for number in range(5, 10)}


def test_once_a_day_and_one_at_a_time(put, prune_once, clock):
    """LED-22."""
    assert prune_once(when_due=True) is not None
    clock.advance(hours=23)
    assert prune_once(when_due=True) is None
    clock.advance(hours=1)
    assert prune_once(when_due=True) is not None


def test_event_of_an_erased_customer_comes_without_its_payload_and_stays_so(database, record, work, stripe, kept):
    """LED-12, faults row 77: a late delivery does not bring back what was erased."""
    with database.write() as connection:
        user = {"user_id": "u", "customer_id": "cus_1", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values({**user, "created_at": NOON, "erased_at": NOON}))
    event = build_event()
    stripe.put(build_subscription())
    work(record(event))
    assert kept() == {event["id"].removeprefix("evt_"): False}
