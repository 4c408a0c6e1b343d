"""Reconciling: what Stripe never delivered is in the ledger afterwards, and the projection is what Stripe says."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.maintenance.reconcile import is_due
from billing.maintenance.runs import Run
from billing.models import (
    RunPhase,
    customers,
    events,
    lanes,
    outbox,
    projections,
    subscriptions,
)
from billing.webhooks.event_types import action_for
from tests.support.builders import NOON
from tests.support.reconcile_world import every, tagged_subscription

# --- what was never delivered


def test_every_tenth_delivery_is_lost_and_the_projection_is_equal_to_stripe_all_the_same(shop):
    """WHK-42, WHK-44."""
    for number in range(6):
        shop.subscribe(f"user_{number}")
    for number, subscription in enumerate(shop.objects("subscription")):
        shop.sandbox.force_status(subscription["id"], ["past_due", "canceled", "unpaid"][number % 3])
    made = shop.made()
    shop.deliver(every(10)(made))
    shop.work_events()
    lost = {event["id"] for event in made[9::10] if action_for(event["type"])}
    assert len(lost) >= 3
    row = shop.reconcile()
    assert shop.found() == lost
    assert row.report["found"] == len(lost)
    shop.work_events()
    assert shop.projection() == shop.truth()
    assert {event.status for event in shop.rows(events)} <= {"done", "ignored"}


def test_nothing_was_delivered_at_all(shop):
    """WHK-42, W6: the endpoint was gone for a day; several pages."""
    for number in range(20):
        shop.subscribe(f"user_{number}")
    assert len(shop.made()) > 200
    row = shop.reconcile()
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}
    assert row.report["pages"] >= 3
    shop.work_events()
    assert shop.projection() == shop.truth()


def test_delivery_that_comes_late_is_a_duplicate(shop):
    """WHK-42, LED-1."""
    shop.subscribe("user_1")
    shop.reconcile()
    before = shop.rows(events)
    shop.deliver(event for event in shop.made() if action_for(event["type"]))
    assert shop.rows(events) == before


def test_event_that_was_found_is_kept_as_it_would_have_come(shop):
    """WHK-42: the envelope's columns, and a payload that says the same."""
    shop.subscribe("user_1")
    shop.reconcile()
    [made] = [event for event in shop.made() if event["type"] == "customer.subscription.created"]
    [row] = [row for row in shop.rows(events) if row.event_id == made["id"]]
    assert (row.type, row.customer_id, row.account) == (made["type"], made["data"]["object"]["customer"], "")
    assert json.loads(row.payload) == made


def test_workers_are_woken_for_what_was_found(shop):
    """WHK-42."""
    shop.subscribe("user_1")
    shop.reconcile()
    assert shop.queue.sent.count(WorkEvents()) == 1


def test_delivery_on_its_way_is_left_alone(shop):
    """WHK-43: created within the last minute; the next run sees to it."""
    shop.subscribe("user_1")
    shop.clock.advance(minutes=-5, seconds=30)
    shop.reconcile()
    assert shop.found() == set()
    shop.reconcile()
    assert len(shop.found()) > 3


def test_next_run_reads_from_the_mark_less_an_hour(shop):
    """WHK-43: an event that shows up late in the list is found; what is older is not read again."""
    shop.subscribe("user_1")
    shop.reconcile()
    late = shop.found()
    mark = shop.run_row().mark
    with shop.database.write() as connection:
        connection.execute(sa.delete(events))
    shop.reconcile()
    assert shop.run_row().since == mark - timedelta(hours=1)
    assert shop.found() == late
    shop.clock.advance(hours=2)
    shop.reconcile()
    shop.clock.advance(hours=2)
    assert shop.reconcile().report["events"] == 0


def test_mark_is_stripes_time_and_not_ours(shop):
    """WHK-43, faults row 30: our clock is two hours ahead; trusted, it would skip what comes meanwhile."""
    stripes = shop.clock.now()
    shop.sandbox.advance(-7200 - 300)
    shop.clock.advance(hours=2)
    shop.reconcile()
    assert shop.run_row().mark <= stripes


# --- past thirty days


def test_events_older_than_stripe_keeps_them_are_made_up_for_by_the_objects(shop):
    """WHK-45, faults row 78: nobody listened for 40 days; what changed meanwhile has no event any more."""
    customer = shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    shop.reconcile()
    [subscription] = shop.objects("subscription")
    shop.sandbox.force_status(subscription["id"], "canceled")
    elsewhere = tagged_subscription(shop, "cus_of_nobody")
    shop.clock.advance(days=40)
    for event in shop.made():  # of its renewal, which would do
        if event["data"]["object"].get("customer") == "cus_of_nobody":
            shop.sandbox.store.remove("event", event["id"])
    row = shop.reconcile()
    assert row.report["gap"] is True
    [known] = [one["fields"] for one in row.report["drift"] if one["customer_id"] == customer]
    assert "status" in known
    assert {"customer_id": "cus_of_nobody", "fields": ["missing"]} in row.report["drift"]
    shop.work_events()
    assert shop.projection() == shop.truth()
    assert elsewhere in shop.projection()
    assert shop.reconcile().report["gap"] is False


def test_ledger_that_is_new_has_missed_nothing(shop):
    """WHK-45: no alert at the first start."""
    row = shop.reconcile()
    assert (row.report["gap"], row.report["compared"]) == (False, 0)


# --- comparing


def test_dry_run_says_what_a_run_would_do_and_writes_nothing(shop):
    """WHK-47."""
    customer = shop.subscribe("user_1")
    shop.deliver(every(4)(shop.made()))
    shop.work_events()
    with shop.database.write() as connection:
        connection.execute(sa.update(subscriptions).values(status="canceled"))
        connection.execute(sa.update(projections).values(synced_at=shop.clock.now() - timedelta(days=2)))
    before = {table: shop.rows(table) for table in (events, subscriptions, projections, outbox, lanes)}
    tried = shop.reconcile(dry=True)
    assert {table: shop.rows(table) for table in before} == before
    assert shop.run_row() == Run(1)
    assert (tried.report["found"] > 0, tried.report["drift"]) == (
        True,
        [{"customer_id": customer, "fields": ["status"]}],
    )
    done = shop.reconcile()
    same = ("pages", "events", "found", "strays")
    assert [done.report[what] for what in same] == [tried.report[what] for what in same]


# --- when


@pytest.mark.parametrize(
    ("row", "due"),
    [
        (Run(1), True),
        (Run(1, phase=RunPhase.EVENTS, started_at=NOON), True),
        (Run(1, phase=RunPhase.EVENTS, next_attempt_at=NOON + timedelta(seconds=1)), False),
        (Run(1, phase=RunPhase.EVENTS, next_attempt_at=NOON + timedelta(hours=2)), True),
        (Run(1, started_at=NOON - timedelta(seconds=121), finished_at=NOON - timedelta(seconds=120)), False),
        (Run(1, started_at=NOON - timedelta(seconds=181), finished_at=NOON - timedelta(seconds=180)), True),
        (Run(1, started_at=NOON - timedelta(minutes=60), finished_at=NOON - timedelta(minutes=59)), True),
        (Run(1, started_at=NOON - timedelta(minutes=15), finished_at=NOON - timedelta(minutes=9)), False),
        (Run(1, started_at=NOON - timedelta(hours=9), finished_at=NOON - timedelta(hours=1)), True),
        (Run(1, started_at=NOON, finished_at=NOON + timedelta(hours=2)), True),
    ],
)
def test_run_is_due(row, due):
    """WHK-49: three minutes after the last one, later after a long one, and at once what was interrupted."""
    assert is_due(row, NOON) is due


def test_event_of_an_erased_customer_is_found_without_its_payload(shop):
    """LED-12, faults row 77: nor does the reconciler bring back what was erased."""
    shop.subscribe("user_1")
    with shop.database.write() as connection:
        connection.execute(sa.update(customers).values(erased_at=shop.clock.now()))
    shop.reconcile()
    whose = [row for row in shop.rows(events) if row.customer_id]
    assert len(whose) > 3
    assert {row.payload for row in whose} == {None}
