"""Thin notifications: they name an object and no more, so Stripe is asked whose it is.

Stripe here is the sandbox behind the real gateway and SDK; where it cannot be brought to do something, the fake.
"""

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Reconcile
from billing.errors import InvalidEvent, StripeUnclear
from billing.maintenance import runs
from billing.maintenance.reconcile import is_due
from billing.models import RunPhase, events, installation, maintenance_runs
from billing.subscriptions.queries import read_subscription
from billing.webhooks.event_types import FOLLOWED, FOLLOWED_THIN, action_for
from sandbox import thin
from tests.support.builders import NOON, build_subscription
from tests.support.reconcile_world import Shop

HEALTH = "v2.core.health.event_generation_failure.resolved"


@pytest.fixture
def shop(database):
    """A shop whose events are delivered by hand."""
    return Shop(database)


def build_note(type="v1.customer.subscription.updated", named=("sub_1", "subscription"), **instead):
    """A thin notification."""
    id_, kind = named
    related = {"id": id_, "type": kind, "url": f"/v1/anything/{id_}"}
    made = {"id": "evt_test_1", "object": "v2.core.event", "type": type, "created": "2026-06-01T12:00:00.000Z"}
    return {**made, "livemode": False, "context": None, "related_object": related, **instead}


def rows(database):
    """Type, status and customer of every event."""
    with database.read() as connection:
        found = connection.execute(sa.select(events).order_by(events.c.id)).all()
    return [(row.type, row.status, row.customer_id) for row in found]


def reconciling(database):
    """The row of the reconciler."""
    with database.read() as connection:
        return runs.read(connection, 1)


# --- of a followed type


def test_buyer_who_paid_has_access_when_only_thin_notifications_came(shop):
    """WHK-70, WHK-13."""
    customer = shop.subscribe("user_1")
    shop.deliver(thin.notification(event) for event in shop.made())
    shop.work_events()
    places = {"database": shop.database, "catalog": shop.catalog, "clock": shop.clock}
    assert read_subscription("user_1", **places)["access"]["granted"] is True
    assert shop.projection() == shop.truth()
    followed = [(f"v1.{event['type']}", "done", customer) for event in shop.made() if action_for(event["type"])]
    assert [row for row in rows(shop.database) if row[1] != "ignored"] == followed
    assert shop.requests("GET", "/v2/core/events/") != []


def test_snapshot_and_thin_notification_of_the_same_change_are_two_events_with_one_effect(shop):
    """WHK-70, LED-1, SUB-4: both may be subscribed to."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.deliver(thin.notification(event) for event in shop.made())
    shop.work_events()
    assert shop.projection() == shop.truth()
    assert {status for _, status, _ in rows(shop.database)} == {"done", "ignored"}


def test_notification_that_was_looked_up_is_worked_with_the_others_of_its_customer(stripe, record, work, database):
    """WHK-70: one fetch for all of them, and looking it up was no failure."""
    stripe.put(build_subscription())
    stripe.put(build_note(id="evt_test_9"))
    record(build_note(id="evt_test_9"))
    for number in range(3):
        record(build_note("v1.customer.updated", ("cus_1", "customer"), id=f"evt_test_{number}"))
    work()
    assert {status for _, status, _ in rows(database)} == {"done"}
    assert stripe.calls["list_subscriptions"] == 1
    with database.read() as connection:
        assert set(connection.scalars(sa.select(events.c.attempts))) == {0}


@pytest.mark.parametrize(
    "named",
    [
        {"id": "sub_1", "object": "subscription", "customer": "cus_1"},
        {"id": "sub_sched_1", "object": "subscription_schedule", "customer": "cus_1"},
        {"id": "cs_1", "object": "checkout.session", "customer": "cus_1"},
        {"id": "in_1", "object": "invoice", "customer": {"id": "cus_1", "object": "customer"}},
        {"id": "ch_1", "object": "charge", "customer": "cus_1"},
        {"id": "dp_1", "object": "dispute", "charge": "ch_2"},
        {"id": "pi_1", "object": "payment_intent", "customer": "cus_1"},
    ],
    ids=lambda named: named["object"],
)
@pytest.mark.parametrize("knows_event", [True, False], ids=["event", "no event"])
def test_every_kind_of_object_leads_to_its_customer(stripe, record, work, database, named, knows_event):
    """WHK-70, WHK-72: but not where Stripe does not know the event, whatever the notification says."""
    stripe.put({**build_subscription(), **named} if named["object"] == "subscription" else named)
    stripe.put({"id": "ch_2", "object": "charge", "customer": "cus_1"})
    note = build_note(named=(named["id"], named["object"]))
    if knows_event:
        stripe.put(note)
        note = build_note(named=("sub_elsewhere", "subscription"))
    work(record(note))
    assert rows(database) == [(note["type"], *(("done", "cus_1") if knows_event else ("ignored", None)))]


# --- missing, strange, hostile


@pytest.mark.parametrize(
    "named",
    [
        ("sub_gone", "subscription"),
        ("prod_1", "product"),
        ("../customers/cus_1", "subscription"),
        ("cus_1", "subscription"),
        ("cs_1?expand[]=customer", "checkout.session"),
        ("in_1\n", "invoice"),
        (None, "invoice"),
        ([], {}),
    ],
    ids=str,
)
def test_what_is_missing_or_no_id_ends_as_ignored(stripe, record, work, database, named):
    """WHK-71, WHK-72; fault 66: no such id reaches the gateway, and nothing is tried again."""
    work(record(build_note(named=named)))
    assert [status for _, status, _ in rows(database)] == ["ignored"]
    asked = set(stripe.calls)
    assert asked <= {"get_thin_event", *(["get_subscription"] if named[0] == "sub_gone" else [])}


def test_notification_without_object_whose_event_is_gone_is_ignored(stripe, record, work, database):
    """WHK-72: the summary of entitlements names none."""
    note = build_note("v1.entitlements.active_entitlement_summary.updated")
    del note["related_object"]
    work(record(note))
    assert [status for _, status, _ in rows(database)] == ["ignored"]


def test_lookup_that_fails_comes_back(stripe, record, work, database, clock):
    """LED-7: like any other attempt."""

    def fail(_name):
        raise StripeUnclear("no answer")

    stripe.put(build_subscription())
    stripe.put(build_note())
    row, stripe.before_arrival = record(build_note()), fail
    work(row)
    assert rows(database) == [("v1.customer.subscription.updated", "pending", None)]
    stripe.before_arrival = lambda _name: None
    clock.advance(seconds=5)
    work(row)
    assert rows(database) == [("v1.customer.subscription.updated", "done", "cus_1")]


@pytest.mark.parametrize(
    "type",
    [
        "v2.core.account.updated",
        "v1.product.created",
        "v2.core.health.api_error.firing",
        "customer.subscription.updated",
    ],
)
def test_thin_type_that_nobody_follows_is_kept(record, queue, database, type):
    """WHK-10; fault 58: also one that does not name its API."""
    record(build_note(type))
    assert rows(database) == [(type, "ignored", None)]
    assert queue.sent == []


@pytest.mark.parametrize(
    ("instead", "status"),
    [
        ({"livemode": True}, "rejected"),
        ({"context": "acct_2"}, "rejected"),
        ({"context": "org_1/acct_2"}, "rejected"),
        ({"context": "org_1"}, "rejected"),
        ({"context": "acct_1"}, "pending"),
        ({"context": "org_1/acct_1"}, "pending"),
        ({"context": None}, "pending"),
        ({"account": "acct_2"}, "rejected"),
    ],
    ids=str,
)
def test_other_accounts_and_modes_are_kept_and_not_applied(record, queue, database, instead, status):
    """LED-10; fault 59: a thin notification names the account in its context."""
    with database.write() as connection:
        bound = {"stripe_account": "acct_1", "livemode": False, "bound_at": NOON}
        connection.execute(sa.insert(installation).values(bound))
    record(build_note(**instead))
    assert [row[1] for row in rows(database)] == [status]


@pytest.mark.parametrize("context", ["../acct_1", "acct 1", 7, {"a": 1}, ["acct_1"], "acct_1/"], ids=str)
def test_context_that_is_none_is_refused(record, database, context):
    """WHK-7, WHK-9."""
    with pytest.raises(InvalidEvent):
        record(build_note(context=context))
    assert rows(database) == []


# --- events that were never made


def lost(shop, **impact):
    """Stripe says that an event was never made; the notification comes and is worked."""
    with shop.sandbox.calling() as call:
        event = thin.announce(call, HEALTH, data={"impact": impact})
    shop.deliver([thin.notification(event)])
    job = shop.queue.sent.pop()
    shop.process(job)


def cancel_unheard(shop):
    """A subscription ends, and the events that tell of it are never made; the subscription."""
    [subscription] = shop.objects("subscription")
    before = {event["id"] for event in shop.made()}
    shop.sandbox.force_status(subscription["id"], "canceled")
    for event in shop.made():
        if event["id"] not in before:
            shop.sandbox.store.remove("event", event["id"])
    return subscription


def test_event_that_was_never_made_is_made_good_by_looking_at_whom_it_concerned(shop):
    """WHK-73, W6: nothing else tells of it, not even Stripe's list of events."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    subscription = cancel_unheard(shop)
    assert shop.projection() != shop.truth()
    named = {"id": subscription["id"], "type": "subscription", "url": "https://dashboard.example"}
    lost(shop, event_type="customer.subscription.deleted", related_object=named)
    assert shop.projection() == shop.truth()
    assert rows(shop.database)[-1] == (HEALTH, "done", subscription["customer"])
    assert reconciling(shop.database).phase is RunPhase.IDLE


def test_event_that_was_never_made_may_name_the_customer_alone(shop):
    """WHK-73."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    customer = cancel_unheard(shop)["customer"]
    lost(shop, event_type="customer.updated", related_object={"id": customer, "type": "customer"})
    assert shop.projection() == shop.truth()
    assert rows(shop.database)[-1] == (HEALTH, "done", customer)


@pytest.mark.parametrize(
    "impact",
    [
        {"event_type": "customer.subscription.deleted"},
        {"event_type": "invoice.paid", "related_object": {"id": "in_gone", "type": "invoice"}},
        {"event_type": "invoice.paid", "related_object": {"id": "../in", "type": "invoice"}},
        {},
    ],
    ids=str,
)
def test_where_nobody_can_tell_whom_it_concerned_everybody_is_compared(shop, impact):
    """WHK-73."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    cancel_unheard(shop)
    shop.reconcile()
    assert shop.projection() != shop.truth(), "fetched within a day: not compared"
    with shop.sandbox.calling() as call:
        event = thin.announce(call, HEALTH, data={"impact": impact})
    shop.deliver([thin.notification(event)])
    shop.process(shop.queue.sent.pop())
    assert shop.queue.sent == [Reconcile()]
    shop.queue.sent.clear()
    row = reconciling(shop.database)
    assert (row.thorough, row.unfinished, is_due(row, shop.clock.now())) == (True, True, True)
    shop.reconcile(when_due=True)
    assert shop.projection() == shop.truth()
    assert rows(shop.database)[-1] == (HEALTH, "done", None)


def test_notification_that_stripe_never_made_has_nobody_compared(shop):
    """WHK-72, WHK-73; faults row 127: whoever knows the signing secret could have everybody fetched."""
    with shop.sandbox.calling() as call:
        event = thin.announce(call, HEALTH, data={"impact": {}})
    shop.sandbox.store.remove("event", event["id"])
    shop.deliver([thin.notification(event)])
    shop.work_events()
    assert rows(shop.database) == [(HEALTH, "ignored", None)]
    assert (reconciling(shop.database).unfinished, shop.queue.sent) == (False, [])


def test_event_of_a_type_that_nobody_follows_and_that_was_never_made_is_ignored(shop):
    """WHK-73."""
    lost(shop, event_type="payout.paid", related_object={"id": "po_1", "type": "payout"})
    assert rows(shop.database) == [(HEALTH, "ignored", None)]
    assert (reconciling(shop.database).unfinished, shop.queue.sent) == (False, [])


@pytest.mark.parametrize(
    "guests",
    [
        {"id": "ch_1", "object": "charge", "customer": None},
        {"id": "in_1", "object": "invoice"},
        {"id": "dp_1", "object": "dispute", "charge": "ch_2"},
    ],
    ids=lambda guests: guests["object"],
)
def test_event_about_a_guest_that_was_never_made_is_ignored(stripe, record, work, database, guests):
    """WHK-73, WHK-72: Stripe has what it was about, and that is no customer's."""
    stripe.put(guests, {"id": "ch_2", "object": "charge", "customer": None})
    named = {"id": guests["id"], "type": guests["object"]}
    impact = {"event_type": "charge.refunded", "related_object": named}
    note = build_note(HEALTH, related_object=None, data={"impact": impact})
    stripe.put(note)
    work(record(note))
    assert rows(database) == [(HEALTH, "ignored", None)]
    assert reconciling(database).unfinished is False


def test_reconciling_that_goes_on_loses_its_claim_to_one_of_everybody(shop):
    """WHK-73, WHK-49: and a second alert does not send it back to its beginning before it has compared anybody."""
    with shop.database.write() as connection:
        begun = runs.claim(connection, 1, token="other", now=shop.clock.now())
    lost(shop)
    with shop.database.write() as connection:
        assert not runs.save(connection, begun, now=shop.clock.now(), phase=RunPhase.IDLE)
        connection.execute(sa.update(maintenance_runs).values(cursor="evt_place"))
    lost(shop)
    row = reconciling(shop.database)
    assert (row.cursor, row.thorough, row.claim) == ("evt_place", True, None)
    assert [status for _, status, _ in rows(shop.database)] == ["done", "done"]


def test_customer_who_was_fetched_before_a_second_alert_is_compared_for_it(shop):
    """WHK-73, WHK-49: the run that goes on began before that, and would have left them out."""
    shop.subscribe("user_1")
    made = shop.made()
    lost(shop)
    shop.clock.advance(minutes=1)
    shop.queue.sent.clear()
    shop.deliver(made)
    shop.work_events()
    shop.clock.advance(seconds=10)
    cancel_unheard(shop)
    with shop.database.write() as connection:
        begun = runs.claim(connection, 1, token="other", now=shop.clock.now())
    lost(shop)
    with shop.database.write() as connection:
        assert not runs.save(connection, begun, now=shop.clock.now(), phase=RunPhase.IDLE)
    assert shop.projection() != shop.truth()
    shop.reconcile()
    assert shop.projection() == shop.truth()


def test_run_that_begins_to_compare_at_this_moment_is_begun_anew(shop):
    """WHK-73: of the customers before its place some were fetched since it began, and it would not go back to them."""
    lost(shop)
    early = reconciling(shop.database)
    with shop.database.write() as connection:
        connection.execute(sa.update(maintenance_runs).values(phase=RunPhase.CUSTOMERS))
        assert not runs.take_away(connection, early, started_at=shop.clock.now())
    lost(shop)
    assert reconciling(shop.database).phase is RunPhase.STRAYS


def test_every_followed_type_is_followed_in_its_thin_form():
    """WHK-15, WHK-70."""
    assert {action_for(f"v1.{type}") for type in FOLLOWED} == {action_for(type) for type in FOLLOWED}
    assert not set(FOLLOWED_THIN) & set(FOLLOWED)
    assert action_for("v2.customer.updated") is None
