"""Reconciling: what Stripe never delivered is in the ledger afterwards, and the projection is what Stripe says."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import StaleWrite, StripeUnclear
from billing.maintenance import runs
from billing.maintenance.reconcile import is_due
from billing.maintenance.reconcile_steps import COUNTS
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
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
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


# --- one at a time, and killed


def test_of_two_at_once_one_goes_on(shop):
    """WHK-49."""
    shop.subscribe("user_1")
    with shop.database.write() as connection:
        assert runs.claim(connection, 1, token="other", now=shop.clock.now() + timedelta(minutes=5))
    assert shop.reconcile() is None
    assert shop.found() == set()
    shop.clock.advance(seconds=60)
    assert shop.reconcile() is not None, "its lease is over"


def test_lease_of_a_clock_that_was_ahead_is_not_waited_for(shop):
    """WHK-49, faults row 30."""
    with shop.database.write() as connection:
        runs.claim(connection, 1, token="ahead", now=shop.clock.now() + timedelta(hours=2))
    assert shop.reconcile() is not None


def test_one_that_lost_its_claim_records_nothing_more(shop):
    """WHK-49: frozen for longer than its lease, in the middle of a page."""
    shop.subscribe("user_1")
    real = shop.stripe.page_events

    def lose(**options):
        page = real(**options)
        with shop.database.write() as connection:
            connection.execute(sa.text("UPDATE upkeep SET claim = 'successor'"))
        return page

    shop.stripe.page_events = lose
    with pytest.raises(StaleWrite):
        shop.reconcile()
    assert shop.rows(events) == []
    assert shop.run_row().claim == "successor"


def test_killed_at_any_point_the_next_one_goes_on(shop):
    """WHK-50, faults row 78: before and after every call to Stripe and every commit, again and again to the end."""
    for number in range(16):
        shop.subscribe(f"user_{number}")
    made = shop.made()
    shop.deliver(every(3)(made))
    shop.work_events()
    shop.served("standard", user="stray")
    with shop.database.write() as connection:
        connection.execute(sa.text("UPDATE lanes SET state='closed', nonce=NULL, session_id=NULL"))
        connection.execute(sa.update(projections).values(synced_at=NOON))
    seen_cursors, crashes = set(), 0
    for steps in range(1, 400):
        fuse = Fuse(3 + steps % 9)
        fused = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
        try:
            row = shop.reconcile(**fused)
        except Crash:
            crashes += 1
            shop.queue.sent.clear()  # Redis lost them, too
            seen_cursors.add((shop.run_row().phase, shop.run_row().cursor))
            continue
        assert row is not None
        break
    else:
        pytest.fail("it never came to its end")
    assert crashes > 10
    assert {phase for phase, _ in seen_cursors} >= {RunPhase.STRAYS, RunPhase.EVENTS, RunPhase.CUSTOMERS}
    assert len([cursor for phase, cursor in seen_cursors if phase is RunPhase.EVENTS and cursor]) >= 1
    assert shop.found() & {event["id"] for event in made} == {e["id"] for e in made[2::3] if action_for(e["type"])}
    assert shop.sessions("open") == []
    shop.queue.sent = [WorkEvents()]
    shop.work_events()
    assert shop.projection() == shop.truth()


@pytest.mark.parametrize("steps", range(1, 26))
def test_killed_once_at_this_point(shop, steps):
    """WHK-50, faults row 78: one crash, then one run to the end."""
    for number in range(3):
        shop.subscribe(f"user_{number}")
    fuse = Fuse(steps)
    fused = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
    try:
        shop.reconcile(**fused)
    except Crash:
        shop.queue.sent.clear()
    row = shop.reconcile()
    assert row is not None
    assert not row.unfinished
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}
    shop.queue.sent = [WorkEvents()]
    shop.work_events()
    assert shop.projection() == shop.truth()


def test_run_in_slices_goes_on_where_it_was(shop):
    """WHK-50: a worker's thread is not kept for long."""
    for number in range(20):
        shop.subscribe(f"user_{number}")
    rows = [shop.reconcile(stop=after_steps(1))]
    while rows[-1].unfinished:
        rows.append(shop.reconcile(stop=after_steps(1)))
    assert len(rows) >= 3
    assert rows[-1].report["pages"] == len(shop.requests("GET", "/v1/events"))
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}


def after_steps(number):
    """Stop after so many steps."""
    left = iter(range(number))
    return lambda: next(left, None) is None


def test_page_whose_place_is_gone_is_read_again_from_the_newest(shop):
    """WHK-50, faults row 78: the run lay for so long that Stripe forgot the event at which it was."""
    for number in range(20):
        shop.subscribe(f"user_{number}")
    shop.reconcile(dry=True)
    with shop.database.write() as connection:
        row = runs.claim(connection, 1, token="me", now=shop.clock.now())
        begun = {
            "phase": "events",
            "cursor": "evt_forgotten",
            "report": dict.fromkeys(COUNTS, 0) | {"gap": False, "drift": []},
        }
        begun |= {"since": shop.clock.now() - timedelta(days=1), "started_at": shop.clock.now()}
        runs.let_go(connection, row, **begun)
    assert not shop.reconcile().unfinished
    assert shop.found() == {event["id"] for event in shop.made() if action_for(event["type"])}


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


def test_failure_in_passing_is_noted_and_waited_for(shop):
    """WHK-50: the place is kept; beat comes back when Stripe said so."""
    shop.subscribe("user_1")
    shop.sandbox.faults.add("status", path="/v1/events", status=503, times=2, headers={"Retry-After": "70"})
    with pytest.raises(StripeUnclear):
        shop.reconcile()
    row = shop.run_row()
    assert (row.phase, row.claim, row.failures) == (RunPhase.EVENTS, None, 1)
    assert row.next_attempt_at == shop.clock.now() + timedelta(seconds=70)
    shop.clock.advance(minutes=-5, seconds=60)
    assert shop.reconcile(when_due=True) is None
    assert not shop.reconcile(when_due=True).unfinished
    assert (shop.run_row().failures, shop.run_row().next_attempt_at) == (0, None)


def test_event_of_an_erased_customer_is_found_without_its_payload(shop):
    """LED-12, faults row 77: nor does the reconciler bring back what was erased."""
    shop.subscribe("user_1")
    with shop.database.write() as connection:
        connection.execute(sa.update(customers).values(erased_at=shop.clock.now()))
    shop.reconcile()
    whose = [row for row in shop.rows(events) if row.customer_id]
    assert len(whose) > 3
    assert {row.payload for row in whose} == {None}
