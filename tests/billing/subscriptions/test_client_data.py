"""What a client said at the checkout comes back with the checkout, the subscription and each change of it."""

from typing import Any

import sqlalchemy as sa

from billing.database import Database
from billing.models import outbox, subscriptions
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.support.operations_world import Shop

SAID = {"client_reference_id": "order 7", "metadata": {"cart": "12"}}
NOTHING: dict[str, Any] = {"client_reference_id": None, "metadata": {}}


def named(thing: dict[str, Any]) -> dict[str, Any]:
    """The two fields of it."""
    return {name: thing[name] for name in NOTHING}


def buy(shop: Shop, user: str = "user_1", **said: Any) -> str:
    """A user buys the plan; their subscription."""
    view = shop.served(user=user, **said)
    assert named(view.as_json()) == {**NOTHING, **said}
    subscription = str(shop.sandbox.pay(str(view.session_id))["subscription"])
    sync(shop, subscription)
    return subscription


def sync(shop: Shop, subscription: str) -> None:
    """As an event makes a worker do it."""
    customer = shop.at_stripe(subscription)["customer"]
    places: dict[str, Any] = {"database": shop.database, "stripe": shop.stripe, "clock": shop.clock}
    places["queue"] = shop.queue
    sync_customer(customer, SyncContext(catalog=shop.catalog, **places), subscriptions=[subscription])


def told(shop: Shop) -> list[dict[str, Any]]:
    """The subscription in each change that the application is told of."""
    return [row.payload["subscription"] for row in shop.rows(outbox)]


def note(shop: Shop, subscription: str, **metadata: str) -> None:
    """Somebody notes something at Stripe."""
    answer = shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", {"metadata": metadata})
    assert answer.status == 200


def test_what_the_client_said_comes_back_and_what_others_noted_does_not(database: Database) -> None:
    """SUB-86: also after somebody has written into the same metadata at Stripe."""
    shop = Shop(database)
    subscription = buy(shop, **SAID)
    note(shop, subscription, risk="high", cart="13")
    assert named(shop.seen()) == SAID
    shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", {"cancel_at_period_end": True})
    sync(shop, subscription)
    assert [named(one) for one in told(shop)] == [SAID, SAID]


def test_nonce_that_was_copied_shows_nothing_of_another_user(database: Database) -> None:
    """SUB-86: nor does a text that is no nonce stop anything."""
    shop = Shop(database)
    first = buy(shop, **SAID)
    second = buy(shop, "user_2")
    for nonce in (shop.at_stripe(first)["metadata"]["nonce"], "x" * 400):
        note(shop, second, nonce=nonce)
        sync(shop, second)
        assert named(shop.seen("user_2")) == NOTHING
    assert named(shop.seen()) == SAID


def test_rows_of_an_earlier_version_get_theirs_with_the_next_sync_and_nobody_is_told(database: Database) -> None:
    """SUB-4, SUB-86"""
    shop = Shop(database)
    subscription = buy(shop, **SAID)
    with shop.database.write() as connection:
        connection.execute(sa.update(subscriptions).values(nonce=None))
    assert named(shop.seen()) == NOTHING
    before = len(told(shop))
    sync(shop, subscription)
    assert named(shop.seen()) == SAID
    assert len(told(shop)) == before
