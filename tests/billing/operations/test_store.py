"""The rows of operations, on both databases: which one is worked, who changes it, and what is found of the others."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import OperationStatus, customers, lanes, operations
from billing.operations import store
from billing.operations.calls import Sent
from tests.support.builders import NOON

NOW, SOON = NOON + timedelta(hours=1), NOON + timedelta(hours=1, seconds=5)
Row = dict[str, Any]


def row(number: int, lane: int = 1, **instead: Any) -> Row:
    """An operation that waits: `op_` and its number."""
    made = {"id": f"op_{number}", "lane_id": lane, "user_id": f"user_{lane}", "number": number, "kind": "cancel"}
    made |= {"request": {}, "body_hash": "equal", "status": "pending", "sent": [], "arrived_at": NOON}
    return made | instead


@pytest.fixture
def database(database: Database) -> Database:
    """A ledger with three buyers and their lanes."""
    with database.write() as connection:
        for number in (1, 2, 3):
            made = {"user_id": f"user_{number}", "idempotency_key": str(number), "parameters": {}, "created_at": NOON}
            connection.execute(sa.insert(customers).values(customer_id=f"cus_{number}", **made))
            connection.execute(sa.insert(lanes).values(id=number, user_id=f"user_{number}", product="kiloclaw"))
    return database


def put(connection: sa.Connection, *rows: Row) -> None:
    """These are there."""
    for one in rows:
        connection.execute(sa.insert(operations).values(one))


def values(connection: sa.Connection, *names: str) -> dict[str, tuple[Any, ...]]:
    """Columns of every row, by its id."""
    found = connection.execute(sa.select(operations.c.id, *(operations.c[name] for name in names)))
    return {id_: tuple(rest) for id_, *rest in found}


ENDED: Row = {"status": "succeeded", "finished_at": NOW}


@pytest.mark.parametrize(
    ("rows", "oldest", "equal"),
    [
        ([], None, None),
        ([row(2), row(1)], "op_1", "op_2"),
        ([row(1, **ENDED), row(2)], "op_2", "op_2"),
        ([row(1, **ENDED)], None, None),
        ([row(1, lane=2)], None, None),
        ([row(1, lane=2), row(3), row(2)], "op_2", "op_3"),
        ([row(1), row(2, body_hash="another")], "op_1", None),  # the buyer wants something else by now
        ([row(1), row(2, body_hash="another", **ENDED)], "op_1", "op_1"),
    ],
)
def test_oldest_that_waits_is_worked_and_the_newest_may_be_joined(
    database: Database, rows: list[Row], oldest: str | None, equal: str | None
) -> None:
    """SUB-30, SUB-37: of one lane."""
    with database.write() as connection:
        put(connection, *rows)
        found = store.oldest_pending(connection, 1)
        assert (found.id if found else None) == oldest
        assert store.find_waiting_equal(connection, 1, "equal") == equal


def oldest(connection: sa.Connection) -> store.Operation:
    """What a worker of the first lane reads."""
    found = store.oldest_pending(connection, 1)
    assert found is not None
    return found


def meanwhile(connection: sa.Connection, **changes: Any) -> None:
    """Another worker was quicker."""
    connection.execute(sa.update(operations).where(operations.c.id == "op_1").values(changes))


@pytest.mark.parametrize(("changes", "won"), [({"version": 0}, True), ({"version": 1}, False), (ENDED, False)])
def test_only_who_read_the_row_last_changes_it(database: Database, changes: Row, won: bool) -> None:
    """SUB-30: and no other row."""
    with database.write() as connection:
        put(connection, row(1), row(2))
        read = oldest(connection)
        meanwhile(connection, **changes)
        assert store.change(connection, read, subscription_id="sub_1") is won
        seen = values(connection, "version", "subscription_id")
        assert seen == {"op_1": (1, "sub_1") if won else (changes.get("version", 0), None), "op_2": (0, None)}
        assert store.finish(connection, read, OperationStatus.FAILED, now=NOW) is False, "it was not read again"


def test_who_ends_it_is_told_so(database: Database) -> None:
    """SUB-36, SUB-50: the one who wakes the buyer."""
    with database.write() as connection:
        put(connection, row(1, request={"plan": "commit", "return_url": "https://app.example/?email=a"}), row(2))
        read = oldest(connection)
        error = {"code": "no_subscription", "detail": "No."}
        ended = [store.finish(connection, read, OperationStatus.REFUSED, now=NOW, error=error) for _ in range(2)]
        assert ended == [True, False]
        seen = values(connection, "status", "finished_at", "error", "request")
        assert seen["op_1"] == ("refused", NOW, error, {"plan": "commit"})
        assert seen["op_2"] == ("pending", None, None, {})


def test_failure_is_noted_on_the_one_that_still_waits(database: Database) -> None:
    """SUB-30"""
    with database.write() as connection:
        put(connection, row(1), row(2))
        read = oldest(connection)
        for counted in (True, False, True):
            store.postpone(connection, read, code="stripe_unavailable", until=SOON, counted=counted)
        meanwhile(connection, **ENDED)
        store.postpone(connection, read, code="late", until=NOW, counted=True)
        seen = values(connection, "failures", "last_error", "next_attempt_at")
        assert seen == {"op_1": (2, "stripe_unavailable", SOON), "op_2": (0, None, None)}


@pytest.mark.parametrize(
    ("rows", "woken"),
    [
        ([row(1)], [1]),
        ([row(9, lane=2), row(1), row(2)], [1, 2]),  # each lane once
        ([row(1, **ENDED)], []),
        ([row(1, next_attempt_at=NOW)], [1]),
        ([row(1, next_attempt_at=SOON)], []),
        ([row(1, next_attempt_at=NOW + timedelta(hours=1))], [1]),  # of a clock that is ahead
        ([row(1, next_attempt_at=SOON), row(2)], [1]),
        ([row(1, lane=3), row(1, lane=2, id="op_2")], [2, 3]),
        ([row(1, lane=lane, id=f"op_{lane}") for lane in (3, 2, 1)], [1, 2]),  # so many at once
    ],
)
def test_lanes_are_woken_whose_time_has_come(database: Database, rows: list[Row], woken: list[int]) -> None:
    """SUB-30"""
    with database.write() as connection:
        put(connection, *rows)
        assert store.lanes_to_wake(connection, now=NOW, limit=2) == woken


def sent(ends_at: int | None, name: str = "cancel") -> Row:
    """A write that was answered, as its row has it."""
    return {"name": name, "subscription_id": "sub_1"} | ({"ends_at": ends_at} if ends_at else {})


@pytest.mark.parametrize(
    ("rows", "ends"),
    [
        ([row(1, sent=[sent(10)]), row(2, sent=[sent(20)])], [20, 10]),
        ([row(2, sent=[sent(20)]), row(1, sent=[sent(10)])], [20, 10]),
        ([row(1, sent=[sent(10), sent(20)])], [20, 10]),
        ([row(1, sent=[sent(10)], **ENDED)], [10]),
        ([row(1, lane=2, sent=[sent(10)])], []),
        ([row(1, sent=[sent(10)], kind="switch")], []),
        ([row(1, sent=[sent(None), sent(10, "release"), "cancel"])], []),  # the last is of an earlier version
    ],
)
def test_cancellations_of_a_lane_are_found_newest_first(database: Database, rows: list[Row], ends: list[int]) -> None:
    """SUB-85"""
    with database.write() as connection:
        put(connection, *rows)
        assert store.find_cancellations(connection, 1) == [Sent("cancel", "sub_1", ends_at=end) for end in ends]


@pytest.mark.parametrize(("seconds", "shown"), [(0, True), (299, True), (300, False)])
def test_address_is_shown_and_kept_for_minutes(database: Database, seconds: int, shown: bool) -> None:
    """SUB-38"""
    now = NOW + timedelta(seconds=seconds)
    with database.write() as connection:
        put(
            connection, row(1, url="https://portal", last_error="old", **ENDED), row(2, last_error="stripe_unavailable")
        )
        view, waits = (store.read_view(connection, id_, now=now) for id_ in ("op_1", "op_2"))
        assert view is not None
        assert waits is not None
        assert (view.url, view.trouble) == ("https://portal" if shown else None, None)
        assert (waits.url, waits.trouble) == (None, "stripe_unavailable")
        store.forget_addresses(connection, now=now)
        assert values(connection, "url") == {"op_1": ("https://portal" if shown else None,), "op_2": (None,)}
        assert store.read_view(connection, "op_9", now=now) is None


def test_lane_has_one_owner(database: Database) -> None:
    """SUB-37"""
    with database.read() as connection:
        assert [store.find_customer(connection, lane) for lane in (2, 9)] == [("user_2", "cus_2"), None]
