"""Clients' Idempotency-Keys: one rule for every table that takes them, on both databases."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.customers import store as customers_store
from billing.customers.store import next_number, open_lane
from billing.database import Database
from billing.errors import IdempotencyMismatch, LedgerUnavailable
from billing.models import checkouts, metadata, operations
from billing.rules import idempotency
from tests.support.builders import NOON

ASKED: dict[str, dict[str, Any]] = {
    "checkouts": {"plan": "standard", "price_id": "price_1", "request": {}, "fingerprint": "f"},
    "operations": {"kind": "cancel", "request": {}, "sent": []},
}
TABLES = [table for table in metadata.sorted_tables if {"idempotency_key", "body_hash"} <= set(table.c.keys())]


def test_tables_that_take_keys_are_these() -> None:
    """CHK-10: a new one is tried below as soon as it is known how a row of it is made."""
    assert {table.name for table in TABLES} == set(ASKED) == {checkouts.name, operations.name}


@pytest.fixture
def connection(database: Database) -> Any:
    with database.write() as connection:
        customers_store.open_customer(connection, user_id="user_1", email=None, now=NOON)
        yield connection


def values_of(table: sa.Table, connection: sa.Connection, **instead: Any) -> dict[str, Any]:
    lane_id = open_lane(connection, user_id="user_1", product="kiloclaw")
    number = next_number(connection, lane_id)
    who = {"id": f"{table.name}_{number}", "lane_id": lane_id, "user_id": "user_1", "number": number}
    how = {"status": "pending", "idempotency_key": "key", "body_hash": "a", "arrived_at": NOON}
    return {**ASKED[table.name], **who, **how, **instead}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
class TestKey:
    """Each rule for each table."""

    def test_same_body_is_replayed_and_another_refused(self, table: sa.Table, connection: sa.Connection) -> None:
        """CHK-10"""
        first = values_of(table, connection)
        assert idempotency.find_earlier(connection, table, first) is None
        idempotency.insert(connection, table, first)
        assert idempotency.find_earlier(connection, table, values_of(table, connection)) == first["id"]
        with pytest.raises(IdempotencyMismatch):
            idempotency.find_earlier(connection, table, values_of(table, connection, body_hash="b"))
        other = values_of(table, connection, idempotency_key=None)
        assert idempotency.find_earlier(connection, table, other) is None

    def test_key_is_free_again_after_a_day(self, table: sa.Table, connection: sa.Connection) -> None:
        """CHK-10"""
        idempotency.insert(connection, table, values_of(table, connection))
        for hours, found in ((24, True), (24.01, False)):
            later = values_of(table, connection, body_hash="a", arrived_at=NOON + timedelta(hours=hours))
            assert (idempotency.find_earlier(connection, table, later) is not None) is found
        idempotency.insert(connection, table, later)

    def test_keys_are_forgotten_after_a_day(self, table: sa.Table, connection: sa.Connection) -> None:
        """CHK-10"""
        idempotency.insert(connection, table, values_of(table, connection))
        day = NOON + idempotency.KEY_LIFETIME
        assert idempotency.forget_keys(connection, table, now=day) == 0
        assert idempotency.forget_keys(connection, table, now=day + timedelta(seconds=1)) == 1

    def test_key_that_is_taken_meanwhile_is_tried_again(self, table: sa.Table, connection: sa.Connection) -> None:
        """CHK-10"""
        idempotency.insert(connection, table, values_of(table, connection))
        with pytest.raises(LedgerUnavailable, match="Try again"):
            idempotency.insert(connection, table, values_of(table, connection))
