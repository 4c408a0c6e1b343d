"""Who is new enough for a trial of the product, as a table of what the ledger knows. On both databases."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import attempts, customers, lanes, product_trials, projections, subscriptions
from billing.subscriptions.product_trial import begin, may_begin, read
from tests.support.builders import NOON

OURS = "kiloclaw"
Rows = list[tuple[sa.Table, dict[str, Any]]]


def customer(user: str = "user_1", id: str | None = "cus_1", **instead: Any) -> Rows:
    """A user with a Stripe customer that we made."""
    made = {"user_id": user, "customer_id": id, "idempotency_key": user, "parameters": {}, "created_at": NOON}
    return [(customers, {**made, "requested_at": NOON, **instead})]


def fetched(id: str = "cus_1") -> Rows:
    """A customer whose subscriptions are known."""
    return [(projections, {"customer_id": id})]


def subscription(status: str = "active", product: str | None = OURS, id: str = "cus_1") -> Rows:
    """One that is known."""
    row = {"subscription_id": f"sub_{id}", "customer_id": id, "product": product, "status": status, "created_at": NOON}
    return [*fetched(id), (subscriptions, row)]


def attempt(outcome: str | None = "completed", user: str = "user_1", product: str = OURS) -> Rows:
    """A payment page that came to this; and somebody else's lane, on which nothing happened."""
    made = {"nonce": "nonce", "lane_id": 1, "checkout_id": "chk_1", "idempotency_key": "key", "parameters": {}}
    made |= {"fingerprint": "", "outcome": outcome, "created_at": NOON, "expires_at": NOON}
    return [
        (lanes, {"id": 1, "user_id": user, "product": product}),
        (lanes, {"id": 2, "user_id": "user_1", "product": "elsewhere"}),
        (attempts, made),
    ]


def trial(user: str = "user_1", product: str = OURS) -> Rows:
    """One that is over."""
    ended = {"started_at": NOON - timedelta(days=20), "ends_at": NOON - timedelta(days=13)}
    return [(product_trials, {"user_id": user, "product": product, **ended})]


OTHER = customer("user_2", "cus_2")


@pytest.mark.parametrize(
    ("rows", "new"),
    [
        ([], True),
        (customer(), True),
        (customer() + OTHER + subscription(id="cus_2"), True),
        # a subscription
        (customer() + subscription(), False),
        (customer() + subscription("canceled"), False),
        (customer() + subscription("a status that Stripe adds"), False),
        (customer() + subscription("incomplete"), True),
        (customer() + subscription("incomplete_expired"), True),
        (customer() + subscription(product="elsewhere"), True),
        (customer() + subscription(product=None), True),
        # a paid page, also where Stripe has deleted the customer since
        (customer(id=None) + attempt(), False),
        (customer(id=None) + attempt(product="another"), True),
        (customer(id=None) + attempt("expired"), True),
        (customer(id=None) + attempt(None), True),
        (customer(id=None) + OTHER + attempt(user="user_2"), True),
        # a customer who was imported
        (customer(requested_at=None), False),
        (customer(requested_at=None) + fetched(), True),
        (customer(requested_at=None) + fetched("cus_2"), False),
        (customer() + customer("user_2", "cus_2", requested_at=None), True),
        # a trial before
        (trial(), False),
        (trial(product="elsewhere"), True),
        (trial("user_2"), True),
        # somebody who was erased
        (customer(erased_at=NOON), False),
        (customer() + customer("user_2", "cus_2", erased_at=NOON), True),
    ],
)
def test_trial_is_for_who_is_new(database: Database, rows: Rows, new: bool) -> None:
    """SUB-63, SUB-64"""
    with database.write() as connection:
        for table, values in rows:
            connection.execute(sa.insert(table).values(values))
        assert may_begin(connection, "user_1", OURS) is new
        before = read(connection, "user_1", OURS)
        begun = begin(connection, "user_1", OURS, days=7, now=NOON)
        assert begun == read(connection, "user_1", OURS)
    assert (begun and begun.ends_at) == (NOON + timedelta(days=7) if new else before and before.ends_at)
