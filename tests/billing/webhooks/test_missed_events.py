"""Events that Stripe never made: it tells of them by a notification, and whoever they concerned is compared."""

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import Reconcile
from billing.maintenance import runs
from billing.maintenance.reconcile import is_due
from billing.models import RunPhase, maintenance_runs
from sandbox import thin
from tests.support.builders import build_note
from tests.support.working import outcomes

HEALTH = "v2.core.health.event_generation_failure.resolved"


def reconciling(database):
    """The row of the reconciler."""
    with database.read() as connection:
        return runs.read(connection, 1)


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
    assert outcomes(shop.database)[-1] == (HEALTH, "done", subscription["customer"])
    assert reconciling(shop.database).phase is RunPhase.IDLE


def test_event_that_was_never_made_may_name_the_customer_alone(shop):
    """WHK-73."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.work_events()
    customer = cancel_unheard(shop)["customer"]
    lost(shop, event_type="customer.updated", related_object={"id": customer, "type": "customer"})
    assert shop.projection() == shop.truth()
    assert outcomes(shop.database)[-1] == (HEALTH, "done", customer)


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
    assert outcomes(shop.database)[-1] == (HEALTH, "done", None)


def test_notification_that_stripe_never_made_has_nobody_compared(shop):
    """WHK-72, WHK-73; faults row 127: whoever knows the signing secret could have everybody fetched."""
    with shop.sandbox.calling() as call:
        event = thin.announce(call, HEALTH, data={"impact": {}})
    shop.sandbox.store.remove("event", event["id"])
    shop.deliver([thin.notification(event)])
    shop.work_events()
    assert outcomes(shop.database) == [(HEALTH, "ignored", None)]
    assert (reconciling(shop.database).unfinished, shop.queue.sent) == (False, [])


def test_event_of_a_type_that_nobody_follows_and_that_was_never_made_is_ignored(shop):
    """WHK-73."""
    lost(shop, event_type="payout.paid", related_object={"id": "po_1", "type": "payout"})
    assert outcomes(shop.database) == [(HEALTH, "ignored", None)]
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
    assert outcomes(database) == [(HEALTH, "ignored", None)]
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
    assert [status for _, status, _ in outcomes(shop.database)] == ["done", "done"]


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
