"""What the ledger knows of the causes: each is there while it lasts, and gone once it is mended."""

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.models import CheckoutStatus, events
from billing.operators import causes
from billing.operators.causes import read_causes, why_nothing_is_written
from billing.operators.presence import Heartbeat
from billing.process import marks
from tests.support.builders import build_event
from tests.support.reconcile_world import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


def known(shop: Shop, name: str) -> Any:
    with shop.database.read() as connection:
        return read_causes(connection, now=shop.clock.now())[name]


def archive(shop: Shop, plan: str, *, active: bool) -> None:
    """At Stripe, in the Dashboard."""
    price = shop.catalog.plans[plan].price
    assert shop.sandbox.request("POST", f"/v1/prices/{price}", {"active": str(active).lower()}).status == 200


def test_price_that_stripe_does_not_sell_is_named_until_its_plan_is_sold_again(shop: Shop) -> None:
    """OPS-232"""
    archive(shop, "standard", active=False)
    assert [shop.served(user=user).status for user in ("ann", "bob")] == [CheckoutStatus.FAILED] * 2
    shop.clock.advance(minutes=1)
    assert shop.served("commit", user="cid").status is CheckoutStatus.OPEN, "another plan is sold"
    said = known(shop, "checkouts_refused")
    assert said["count"] == 2
    assert "inactive" in said["error"]
    archive(shop, "standard", active=True)
    shop.clock.advance(minutes=1)
    assert shop.served(user="dan").status is CheckoutStatus.OPEN
    assert known(shop, "checkouts_refused") is None


def test_checkout_that_was_superseded_before_it_was_served_sold_nothing(shop: Shop) -> None:
    """OPS-232"""
    archive(shop, "standard", active=False)
    shop.served(user="ann")
    shop.clock.advance(minutes=1)
    first, second = shop.ask("standard", user="bob"), shop.ask("commit", user="bob")
    shop.work()
    statuses = [shop.view(each, user="bob").status for each in (first, second)]
    assert statuses == [CheckoutStatus.SUPERSEDED, CheckoutStatus.OPEN]
    assert known(shop, "checkouts_refused")["count"] == 1


def test_refusal_is_old_after_an_hour(shop: Shop) -> None:
    archive(shop, "standard", active=False)
    shop.served()
    shop.clock.advance(minutes=61)
    assert known(shop, "checkouts_refused") is None


@pytest.fixture
def without_marks() -> Iterator[None]:
    marks.take()
    yield
    marks.take()


@pytest.mark.usefixtures("without_marks")
@pytest.mark.parametrize("status", [401, 403])
def test_key_that_stripe_refuses_is_named(shop: Shop, status: int) -> None:
    """OPS-232"""
    shop.ask()
    shop.sandbox.faults.add("status", status=status, times=None)
    shop.work_lane()
    Heartbeat(shop.database, kind="worker").beat()
    assert "STRIPE_API_KEY" in known(shop, "key_refused")["why"]
    shop.sandbox.faults.clear()
    shop.served(user="bob")
    Heartbeat(shop.database, kind="worker").beat()
    assert known(shop, "key_refused") is None, "what was refused is done now"


def test_events_that_are_never_delivered_are_named_until_one_is(shop: Shop) -> None:
    """OPS-232: once is an outage, twice is an endpoint that is disabled."""
    shop.subscribe("ann")
    shop.reconcile()
    assert known(shop, "undelivered") is None
    shop.clock.advance(minutes=11)
    shop.subscribe("bob")
    shop.reconcile()
    said = known(shop, "undelivered")
    assert (said["types"], said["events"]) == ("", len(shop.found()))
    shop.deliver([build_event("customer.created")])
    assert known(shop, "undelivered")["types"] != "", "the other types are still not delivered"
    types = sorted({row.type for row in shop.rows(events) if row.source == "reconciled"})
    assert known(shop, "undelivered")["types"] == ", ".join(one for one in types if one != "customer.created")
    shop.deliver([build_event(type_) for type_ in types])
    assert known(shop, "undelivered") is None


def test_nothing_that_was_found_a_day_ago_is_named(shop: Shop) -> None:
    """OPS-232: the endpoint was mended, and nothing happens at Stripe that it could deliver."""
    for user in ("ann", "bob"):
        shop.clock.advance(minutes=11)
        shop.subscribe(user)
        shop.reconcile()
    assert known(shop, "undelivered")
    shop.clock.advance(hours=25)
    assert known(shop, "undelivered") is None


def test_disk_that_is_full_is_named(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-232: of a server's disk this machine knows nothing."""
    assert why_nothing_is_written(shop.database) is None
    monkeypatch.setattr(causes, "FULL_MEGABYTES", 10**12)
    said = why_nothing_is_written(shop.database)
    assert (said is not None) == shop.database.is_sqlite


def test_ledger_that_takes_no_writes_is_named(database: Database) -> None:
    """OPS-232: reads are answered for ever, as by a standby."""
    url = database.url
    if database.is_sqlite:
        standby = Database(str(url))
        sa.event.listen(standby.engine, "connect", lambda one, _: one.execute("PRAGMA query_only = on"))
    else:
        query = {"target_session_attrs": "any", "options": "-c default_transaction_read_only=on"}
        standby = Database(url.update_query_dict(query).render_as_string(hide_password=False))
    try:
        assert why_nothing_is_written(standby)
    finally:
        standby.close()
