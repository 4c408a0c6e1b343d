"""Which events a person means, and that no index of their own is needed to find them."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.maintenance.replay_store import EventFilter, count, matching
from billing.models import EventStatus, events
from billing.webhooks.event_search import SLACK, first_id_since, has_id
from tests.support.builders import NOON
from tests.support.databases import sqlite_in


def put(database: Database, *given: dict) -> None:
    with database.write() as connection:
        rows = [
            {
                "livemode": False,
                "event_id": f"evt_{number}",
                "type": "invoice.paid",
                "customer_id": f"cus_{number}",
                "status": EventStatus.DONE,
                "next_attempt_at": NOON,
                "created_at": NOON,
                "received_at": NOON,
                "account": "",
                **one,
            }
            for number, one in enumerate(given)
        ]
        connection.execute(sa.insert(events), rows)


def found(database: Database, chosen: EventFilter) -> set[str]:
    with database.read() as connection:
        since = [events.c.id >= first_id_since(connection, chosen.since)] if chosen.since else []
        query = sa.select(events.c.event_id).where(*matching(chosen), *since)
        return set(connection.scalars(query))


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (EventFilter(types=("customer.subscription.*",)), {0, 1}),
        (EventFilter(types=("*.deleted",)), {1, 3}),
        (EventFilter(types=("customer.*.updated", "invoice.paid")), {0, 2}),
        (EventFilter(types=("customer_subscription.*",)), set()),  # _ is no wildcard
        (EventFilter(types=("invoice%",)), set()),
        (EventFilter(customer_id="cus_*"), {0, 1, 2, 3}),
        (EventFilter(customer_id="cus_2"), {2}),
        (EventFilter(types=("*.deleted",), customer_id="cus_3*"), {3}),
        (EventFilter(event_ids=("evt_1", "evt_3", "evt_nowhere")), {1, 3}),
    ],
)
def test_star_stands_for_any_text(database: Database, chosen: EventFilter, expected: set[int]) -> None:
    """OPS-163"""
    types = ("customer.subscription.updated", "customer.subscription.deleted", "invoice.paid", "customer.deleted")
    put(database, *({"type": type_} for type_ in types))
    assert found(database, chosen) == {f"evt_{number}" for number in expected}


@pytest.mark.parametrize("sign", "/%_[\\")
def test_every_other_sign_stands_for_itself(database: Database, sign: str) -> None:
    """OPS-163"""
    signs = "/%_[\\-"
    put(database, *({"type": f"x{one}y"} for one in signs))
    assert found(database, EventFilter(types=(f"x{sign}*",))) == {f"evt_{signs.index(sign)}"}


def test_event_is_found_whichever_account_and_mode_it_is_of(database: Database) -> None:
    """OPS-163"""
    accounts = ("", "acct_1", "acct_2", "acct_3")
    put(database, *({"account": one, "livemode": mode, "event_id": "evt_x"} for one in accounts for mode in (0, 1)))
    with database.read() as connection:
        assert connection.scalar(sa.select(sa.func.count()).where(has_id("evt_x"))) == 8
        assert connection.scalar(sa.select(sa.func.count()).where(has_id("evt_y"))) == 0


def test_nothing_is_found_in_an_empty_ledger(database: Database) -> None:
    assert found(database, EventFilter(event_ids=("evt_1",))) == set()
    assert found(database, EventFilter(since=NOON)) == set()


@pytest.mark.parametrize("minutes", range(-30, 20 * 60, 65))
def test_time_is_found_by_the_numbers_of_the_rows(database: Database, minutes: int) -> None:
    """OPS-164: 25 an hour, one of them received by a web whose clock is half an hour ahead."""
    when = [NOON + timedelta(hours=number // 25, minutes=30 if number % 25 == 3 else 0) for number in range(450)]
    put(database, *({"received_at": moment} for moment in when))
    moment = NOON + timedelta(minutes=minutes)
    expected = {f"evt_{number}" for number, one in enumerate(when) if one >= moment}
    assert found(database, EventFilter(since=moment)) == expected
    with database.read() as connection:
        first = first_id_since(connection, moment)
        before = sa.select(sa.func.count()).where(events.c.id >= first, events.c.received_at < moment - 2 * SLACK)
        assert connection.scalar(before) <= 25, "of those before it few are read"


@pytest.mark.parametrize("types", [(), ("invoice.*",)], ids=["any", "of a type"])
def test_counting_those_since_a_time_reads_none_before_it(tmp_path: Path, types: tuple[str, ...]) -> None:
    """OPS-164: in steps of SQLite, of which all of them take a hundred times as many."""
    with sqlite_in(tmp_path) as ledger:
        put(ledger, *({"received_at": NOON + timedelta(minutes=number)} for number in range(5000)))
        end = NOON + timedelta(minutes=5000)

        def steps(chosen: EventFilter, expected: int) -> int:
            counted: list[int] = []
            with ledger.read() as connection:
                driver: Any = connection.connection.driver_connection
                driver.set_progress_handler(lambda: counted.append(100) or 0, 100)
                assert count(connection, chosen, now=end).events == expected
                driver.set_progress_handler(None, 0)
            return sum(counted)

        everything = steps(EventFilter(types=types), 5000)
        assert steps(EventFilter(types=types, since=end - timedelta(minutes=20)), 20) < everything / 10
