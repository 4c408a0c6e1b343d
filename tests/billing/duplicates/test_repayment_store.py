"""The rows of repayments, on both databases: which key may be sent, and who may change what another worker wrote."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.duplicates import repayment_store as store
from billing.duplicates.judge import Kind
from billing.models import incidents, remedies, repayments
from tests.support.builders import NOON

FIRST: dict[str, Any] = {"remedy_id": 1, "kind": Kind.REFUND, "source": "inpay_1", "amount": 900, "currency": "usd"}
FIRST |= {"parameters": {"amount": 900}, "idempotency_key": "key_1", "created_at": NOON}
HOUR, SECOND = timedelta(hours=1), timedelta(seconds=1)


@pytest.fixture
def database(database: Database) -> Database:
    """A ledger with two remedies."""
    about: dict[str, Any] = {"customer_id": "cus_1", "product": "kiloclaw"}
    with database.write() as connection:
        connection.execute(sa.insert(incidents).values(id=1, kind="x", detail={}, opened_at=NOON, **about))
        for id_ in (1, 2):
            made = {"subscription_id": "sub_1", "kept_id": "sub_2", "nonce": str(id_), "refund_key": "key"}
            made |= {"id": id_, "incident_id": 1, "state": "canceled", "created_at": NOON}
            connection.execute(sa.insert(remedies).values(**made, **about))
    return database


@pytest.mark.parametrize(
    ("fields", "usable"),
    [
        ({}, True),
        ({"first_sent_at": NOON}, True),
        ({"first_sent_at": NOON - 20 * HOUR + SECOND}, True),
        ({"first_sent_at": NOON - 20 * HOUR}, False),  # Stripe may have forgotten it
        ({"first_sent_at": NOON + SECOND}, False),  # a clock that went back says nothing of its age
        ({"spent": True}, False),
        ({"parameters": {"amount": 600}}, False),  # another request
    ],
)
def test_key_is_sent_while_stripe_knows_it_and_for_the_same_request(
    database: Database, fields: dict[str, Any], usable: bool
) -> None:
    """SUB-113"""
    with database.write() as connection:
        row = replace(store.insert(connection, FIRST), **fields)
    assert row.is_usable({"amount": 900}, now=NOON) is usable


@pytest.mark.parametrize(("seconds", "may"), [(None, True), (59, False), (60, True)])
def test_key_is_renewed_after_a_look_that_shows_what_it_did(database: Database, seconds: int | None, may: bool) -> None:
    """SUB-113: lists are a minute behind at most."""
    sent_at = None if seconds is None else NOON - seconds * SECOND
    with database.write() as connection:
        row = replace(store.insert(connection, FIRST), last_sent_at=sent_at)
    assert row.may_be_renewed(looked_at=NOON) is may


def test_one_row_for_each_thing_to_give_back_whoever_wrote_it(database: Database) -> None:
    """SUB-20: by remedy, kind and source."""
    with database.write() as connection:
        first = store.insert(connection, FIRST)
        assert store.insert(connection, {**FIRST, "idempotency_key": "key_2", "amount": 1}) == first
        others = [{"kind": Kind.CREDIT}, {"source": "inpay_2"}, {"remedy_id": 2}]
        made = [store.insert(connection, {**FIRST, **one, "idempotency_key": str(one)}) for one in others]
        assert list(store.read_all(connection, 1)) == [first, *made[:2]]


def test_worker_that_read_an_older_key_or_sending_changes_nothing(database: Database) -> None:
    """SUB-113: what another one sends meanwhile is looked at first."""
    new = {"key": "key_2", "parameters": {"amount": 600}, "amount": 600}
    with database.write() as connection:
        read = store.insert(connection, FIRST)
        assert store.note_sending(connection, read, now=NOON)
        assert not store.renew(connection, read, **new), "it was sent since"
        [sent] = store.read_all(connection, 1)
        assert store.note_sending(connection, sent, now=NOON + HOUR)
        [again] = store.read_all(connection, 1)
        assert (again.first_sent_at, again.last_sent_at) == (NOON, NOON + HOUR)
        store.note_spent(connection, again, error="no")
        assert store.renew(connection, again, **new)
        [renewed] = store.read_all(connection, 1)
        assert (renewed.idempotency_key, renewed.amount, renewed.parameters) == ("key_2", 600, {"amount": 600})
        assert (renewed.spent, renewed.first_sent_at) == (False, None)
        assert not store.note_sending(connection, read, now=NOON), "its key is another's"
        store.note_answer(connection, read, stripe_id="re_1", status="succeeded")
        store.note_spent(connection, read, error="late")
        assert list(store.read_all(connection, 1)) == [renewed]
        store.insert(connection, {**FIRST, "source": "inpay_2", "idempotency_key": "key_3"})
        store.note_answer(connection, renewed, stripe_id="re_2", status="pending")
        store.note_status(connection, renewed.id, status="failed")
        rows = connection.execute(sa.select(repayments.c.stripe_id, repayments.c.status).order_by(repayments.c.id))
        assert [tuple(row) for row in rows] == [("re_2", "failed"), (None, None)]
