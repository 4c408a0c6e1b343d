"""Reconciling: unknown customers are found, and known ones are compared in turn."""

from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.errors import StripeRefused
from billing.maintenance import reconcile_customers
from billing.maintenance.reconcile import begin_with_everybody
from billing.models import (
    RunPhase,
    customers,
    installation,
    outbox,
    projections,
    subscriptions,
)
from tests.support.reconcile_world import tagged_subscription


@pytest.mark.parametrize("past_thirty_days", [False, True])
def test_customer_of_whom_we_never_heard_is_found_where_everybody_is_compared(shop, past_thirty_days):
    """WHK-73, WHK-45: their first event was never made; also where a run past the thirty days is begun anew."""
    shop.reconcile()
    if past_thirty_days:
        shop.clock.advance(days=40)
        row = shop.reconcile(stop=lambda: shop.run_row().phase is RunPhase.OBJECTS)
        assert (row.phase, row.report["gap"]) == (RunPhase.OBJECTS, True)
    made = tagged_subscription(shop, "cus_of_nobody")
    for event in shop.made():
        shop.sandbox.store.remove("event", event["id"])
    with shop.database.write() as connection:
        begin_with_everybody(connection, clock=shop.clock)
    row = shop.reconcile()
    assert (row.unfinished, row.report["gap"], row.report["listed"]) == (False, False, 1)
    assert made in shop.projection()


def test_narrower_run_over_one_of_everybody_is_one_of_everybody(shop):
    """WHK-73: an operator's, with a time of its own; the one after it is like any other."""
    with shop.database.write() as connection:
        begin_with_everybody(connection, clock=shop.clock)
    row = shop.reconcile(since=shop.clock.now())
    assert (row.thorough, row.unfinished) == (True, False)
    assert shop.reconcile().thorough is False


def test_customer_who_was_not_looked_at_for_a_day_is_compared(shop):
    """WHK-46: no event was ever made; the field is named, its value is not."""
    customer = shop.subscribe("user_1")
    shop.subscribe("user_2")
    shop.deliver(shop.made())
    shop.work_events()
    shop.reconcile()
    with shop.database.write() as connection:
        theirs = sa.update(subscriptions).where(subscriptions.c.customer_id == customer)
        connection.execute(theirs.values(status="canceled", quantity=7))
    assert shop.reconcile().report["drifted"] == 0, "looked at a moment ago"
    shop.clock.advance(days=1)
    drift = [{"customer_id": customer, "fields": ["quantity", "status"]}]
    assert shop.reconcile(dry=True).report["drift"] == drift
    row = shop.reconcile()
    assert row.report["drift"] == drift
    assert shop.projection() == shop.truth()
    assert [change.kind for change in shop.rows(outbox)] == ["subscription.activated"] * 3


def test_customer_who_came_by_an_import_is_looked_at_in_the_next_run(shop):
    """WHK-46: subscribed before this ledger began."""
    made = tagged_subscription(shop, "cus_imported")
    shop.clock.advance(days=2)
    with shop.database.write() as connection:
        values = {"user_id": "u", "customer_id": "cus_imported", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values({**values, "created_at": shop.clock.now()}))
        connection.execute(sa.update(installation).values(bound_at=shop.clock.now()))
    row = shop.reconcile()
    assert row.report["drift"] == [{"customer_id": "cus_imported", "fields": ["missing"]}]
    assert made in shop.projection()


def test_customer_whose_event_waits_is_left_to_it(shop):
    """WHK-46: what a worker is about to do is no drift."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    row = shop.reconcile(thorough=True)
    assert (row.report["compared"], row.report["drifted"]) == (0, 0)


def test_one_customer_whom_stripe_refuses_does_not_keep_the_others_from_being_compared(shop):
    """WHK-46, LED-11."""
    for number in range(3):
        shop.subscribe(f"user_{number}")
    shop.deliver(shop.made())
    shop.work_events()
    shop.clock.advance(seconds=1)
    shop.sandbox.faults.add("status", path="/v1/subscriptions", skip=1, status=400, code="parameter_invalid")
    row = shop.reconcile(thorough=True)
    assert (row.report["compared"], row.report["failed"], row.unfinished) == (2, 1, False)


@pytest.fixture
def seven(shop, monkeypatch):
    """Customers, fetched long ago, of whom two are compared at once; says who was fetched again."""
    monkeypatch.setattr(reconcile_customers, "COMPARED_TOGETHER", 2)
    for number in range(7):
        shop.subscribe(f"user_{number}")
    shop.deliver(shop.made())
    shop.work_events()
    long_ago = shop.clock.now() - timedelta(days=2)
    with shop.database.write() as connection:
        connection.execute(sa.update(projections).values(synced_at=long_ago))
    return lambda: [row.synced_at > long_ago for row in shop.rows(projections)]


def test_alerts_again_and_again_do_not_send_comparing_back_to_the_first_customer(shop, seven):
    """WHK-96, WHK-73: each of them begins the run anew, before it has come to its end."""
    for round_ in range(1, 4):
        with shop.database.write() as connection:
            begin_with_everybody(connection, clock=shop.clock)
        shop.reconcile(stop=lambda: shop.run_row().report["compared"] == 2)
        assert sum(seven()) == 2 * round_
    seen = shop.clock.now()
    shop.clock.advance(seconds=1)
    with shop.database.write() as connection:
        begin_with_everybody(connection, clock=shop.clock)
    row = shop.reconcile()
    assert (row.unfinished, row.report["compared"]) == (False, 7), "those who were compared for another alert, too"
    assert all(row.synced_at > seen for row in shop.rows(projections))
    assert shop.reconcile(thorough=True).report["compared"] == 7


def test_customers_whom_stripe_refuses_each_time_do_not_take_the_turns_of_the_others(shop, seven, monkeypatch):
    """WHK-96, LED-11: as many of them as a run compares."""
    monkeypatch.setattr(reconcile_customers, "MOST_COMPARED", 2)
    real, refused = shop.stripe.list_subscriptions, [row.customer_id for row in shop.rows(projections)][:2]

    def refuse(customer_id):
        if customer_id in refused:
            raise StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer")
        return real(customer_id)

    shop.stripe.list_subscriptions = refuse
    for _ in range(5):
        shop.reconcile()
    assert seven() == [False] * 2 + [True] * 5
    shop.stripe.list_subscriptions = real
    for _ in range(2):
        shop.reconcile()
    assert all(seven())
