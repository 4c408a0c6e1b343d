"""Reconciling: what Stripe never delivered is in the ledger afterwards, and the projection is what Stripe says."""

import json
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import WorkEvents
from billing.errors import StaleWrite, StripeRefused, StripeUnclear
from billing.maintenance import reconcile_customers, runs
from billing.maintenance.reconcile import begin_with_everybody, is_due
from billing.maintenance.reconcile_steps import COUNTS
from billing.maintenance.runs import Run
from billing.models import (
    RunPhase,
    customers,
    events,
    installation,
    lanes,
    outbox,
    projections,
    subscriptions,
)
from billing.webhooks.event_types import action_for
from tests.support.builders import NOON
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.reconcile_world import Shop, every


@pytest.fixture
def shop(database):
    """A shop on a ledger of its own."""
    return Shop(database)


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


def tagged_subscription(shop, customer):
    """Made elsewhere, for a customer of whom we never heard."""
    shop.sandbox.seed([{"object": "customer", "id": customer, "email": "x@example.com"}])
    price = shop.catalog.plans["standard"].price
    made = shop.sandbox.request(
        "POST",
        "/v1/subscriptions",
        {"customer": customer, "items": [{"price": price}], "metadata": {"type": shop.catalog.product}},
    )
    assert made.status == 200, made.body
    return made.body["id"]


def test_ledger_that_is_new_has_missed_nothing(shop):
    """WHK-45: no alert at the first start."""
    row = shop.reconcile()
    assert (row.report["gap"], row.report["compared"]) == (False, 0)


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


# --- comparing


def test_customer_who_was_not_looked_at_for_a_day_is_compared(shop):
    """WHK-46: no event was ever made; the field is named, its value is not."""
    customer = shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    shop.reconcile()
    with shop.database.write() as connection:
        connection.execute(sa.update(subscriptions).values(status="canceled", quantity=7))
    assert shop.reconcile().report["drifted"] == 0, "looked at a moment ago"
    shop.clock.advance(days=1)
    row = shop.reconcile()
    assert row.report["drift"] == [{"customer_id": customer, "fields": ["quantity", "status"]}]
    assert shop.projection() == shop.truth()
    assert [change.kind for change in shop.rows(outbox)] == ["subscription.activated"] * 2


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
    assert (row.report["compared"], row.report["failed"], row.unfinished) == (3, 1, False)


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


# --- strays


def lose_lane(shop, **values):
    """The ledger comes back from a backup: the lane does not know of its last attempt."""
    with shop.database.write() as connection:
        connection.execute(sa.update(lanes).values(state="closed", nonce=None, session_id=None, **values))


def test_open_session_that_no_live_attempt_owns_is_expired(shop):
    """WHK-48, LAN-5, faults row 26."""
    checkout = shop.served("standard")
    lose_lane(shop)
    row = shop.reconcile()
    assert row.report["strays"] == 1
    assert [(one["id"], one["status"]) for one in shop.sessions()] == [(checkout.session_id, "expired")]


def test_session_that_a_lane_owns_stays_open(shop):
    """WHK-48: also one that a worker is just closing."""
    checkout = shop.served("standard")
    assert shop.reconcile().report["strays"] == 0
    with shop.database.write() as connection:
        connection.execute(sa.update(lanes).values(state="closing"))
    assert shop.reconcile().report["strays"] == 0
    assert [one["id"] for one in shop.sessions("open")] == [checkout.session_id]


def test_session_opened_while_we_listed_is_no_stray(shop):
    """WHK-48, LAN-5: the lane is read after the list."""
    shop.served("standard")
    lose_lane(shop)
    real = shop.stripe.list_sessions
    [session] = shop.sessions("open")

    def adopt(customer_id, **options):
        listed = real(customer_id, **options)
        with shop.database.write() as connection:
            nonce = session["metadata"]["nonce"]
            connection.execute(sa.update(lanes).values(state="open", nonce=nonce, session_id=session["id"]))
        return listed

    shop.stripe.list_sessions = adopt
    shop.reconcile()
    assert [one["id"] for one in shop.sessions("open")] == [session["id"]]


def test_stray_of_a_customer_whom_a_restored_ledger_lost_is_expired(shop):
    """WHK-48, faults row 26: only what carries a nonce of ours; an earlier system's sessions are left alone."""
    shop.served("standard")
    [ours] = shop.sessions("open")
    address = {"success_url": "https://app.example/ok", "mode": "subscription", "customer": "cus_elsewhere"}
    shop.sandbox.seed([{"object": "customer", "id": "cus_elsewhere", "email": "x@example.com"}])
    price = shop.catalog.plans["standard"].price
    theirs = shop.sandbox.request(
        "POST",
        "/v1/checkout/sessions",
        {**address, "line_items": [{"price": price, "quantity": 1}], "metadata": {"type": shop.catalog.product}},
    ).body["id"]
    with shop.database.write() as connection:
        for statement in (
            "DELETE FROM checkouts",
            "DELETE FROM attempts",
            "DELETE FROM lanes",
            "DELETE FROM customers",
        ):
            connection.execute(sa.text(statement))
    shop.reconcile()
    statuses = {one["id"]: one["status"] for one in shop.sessions()}
    assert statuses == {ours["id"]: "expired", theirs: "open"}


def test_stray_that_was_paid_meanwhile_is_not_taken_for_gone(shop):
    """WHK-48, LAN-8: its subscription reaches the projection by its events."""
    checkout = shop.served("standard")
    lose_lane(shop)
    real = shop.stripe.expire_session

    def pay_first(session_id):
        shop.sandbox.pay(session_id)
        return real(session_id)

    shop.stripe.expire_session = pay_first
    shop.reconcile()
    assert [(one["id"], one["status"]) for one in shop.sessions()] == [(checkout.session_id, "complete")]
    shop.stripe.expire_session = real
    shop.reconcile()
    shop.work_events()
    assert shop.projection() == shop.truth() != {}


def test_lane_that_a_worker_holds_is_left_to_the_next_run(shop):
    """WHK-48: the customer lock is the checkout's."""
    shop.served("standard")
    lose_lane(shop)
    with shop.locks.hold("lane:1") as lease:
        assert lease is not None
        shop.reconcile()
    assert len(shop.sessions("open")) == 1
    shop.reconcile()
    assert shop.sessions("open") == []


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
