"""Thin notifications: they name an object and no more, so Stripe is asked whose it is.

Stripe here is the sandbox behind the real gateway and SDK; where it cannot be brought to do something, the fake.
"""

import pytest
import sqlalchemy as sa

from billing.errors import InvalidEvent, StripeUnclear
from billing.models import events, installation
from billing.subscriptions.queries import read_subscription
from billing.webhooks.event_types import FOLLOWED, FOLLOWED_THIN, action_for
from sandbox import thin
from tests.support.builders import NOON, build_note, build_subscription
from tests.support.working import outcomes

HEALTH = "v2.core.health.event_generation_failure.resolved"


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
    assert [row for row in outcomes(shop.database) if row[1] != "ignored"] == followed
    assert shop.requests("GET", "/v2/core/events/") != []


def test_snapshot_and_thin_notification_of_the_same_change_are_two_events_with_one_effect(shop):
    """WHK-70, LED-1, SUB-4: both may be subscribed to."""
    shop.subscribe("user_1")
    shop.deliver(shop.made())
    shop.deliver(thin.notification(event) for event in shop.made())
    shop.work_events()
    assert shop.projection() == shop.truth()
    assert {status for _, status, _ in outcomes(shop.database)} == {"done", "ignored"}


def test_notification_that_was_looked_up_is_worked_with_the_others_of_its_customer(stripe, record, work, database):
    """WHK-70: one fetch for all of them, and looking it up was no failure."""
    stripe.put(build_subscription())
    stripe.put(build_note(id="evt_test_9"))
    record(build_note(id="evt_test_9"))
    for number in range(3):
        record(build_note("v1.customer.updated", ("cus_1", "customer"), id=f"evt_test_{number}"))
    work()
    assert {status for _, status, _ in outcomes(database)} == {"done"}
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
    assert outcomes(database) == [(note["type"], *(("done", "cus_1") if knows_event else ("ignored", None)))]


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
    assert [status for _, status, _ in outcomes(database)] == ["ignored"]
    asked = set(stripe.calls)
    assert asked <= {"get_thin_event", *(["get_subscription"] if named[0] == "sub_gone" else [])}


def test_notification_without_object_whose_event_is_gone_is_ignored(stripe, record, work, database):
    """WHK-72: the summary of entitlements names none."""
    note = build_note("v1.entitlements.active_entitlement_summary.updated")
    del note["related_object"]
    work(record(note))
    assert [status for _, status, _ in outcomes(database)] == ["ignored"]


def test_lookup_that_fails_comes_back(stripe, record, work, database, clock):
    """LED-7: like any other attempt."""

    def fail(_name):
        raise StripeUnclear("no answer")

    stripe.put(build_subscription())
    stripe.put(build_note())
    row, stripe.before_arrival = record(build_note()), fail
    work(row)
    assert outcomes(database) == [("v1.customer.subscription.updated", "pending", None)]
    stripe.before_arrival = lambda _name: None
    clock.advance(seconds=5)
    work(row)
    assert outcomes(database) == [("v1.customer.subscription.updated", "done", "cus_1")]


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
    assert outcomes(database) == [(type, "ignored", None)]
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
    assert [row[1] for row in outcomes(database)] == [status]


@pytest.mark.parametrize("context", ["../acct_1", "acct 1", 7, {"a": 1}, ["acct_1"], "acct_1/"], ids=str)
def test_context_that_is_none_is_refused(record, database, context):
    """WHK-7, WHK-9."""
    with pytest.raises(InvalidEvent):
        record(build_note(context=context))
    assert outcomes(database) == []


def test_every_followed_type_is_followed_in_its_thin_form():
    """WHK-15, WHK-70."""
    assert {action_for(f"v1.{type}") for type in FOLLOWED} == {action_for(type) for type in FOLLOWED}
    assert not set(FOLLOWED_THIN) & set(FOLLOWED)
    assert action_for("v2.customer.updated") is None
