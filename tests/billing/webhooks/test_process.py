"""Processing: what the ledger holds after a customer's events were worked, whatever came in between."""

import itertools
from datetime import timedelta

import pytest
import sqlalchemy as sa

from billing.coordination.queue import InlineQueue
from billing.errors import (
    LedgerUnavailable,
    StripeRefused,
)
from billing.models import customers, events, incidents, outbox, projections
from billing.subscriptions import projection_store
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.support.builders import CATALOG, NOON, build_event, build_subscription, stamp
from tests.support.fakes import failing

# --- the projection ends equal to Stripe


def test_projection_is_what_stripe_says_and_not_what_the_event_says(stripe, record, work, projected, statuses):
    """WHK-13: an event is a hint; applying its payload would give `active`."""
    stripe.put(build_subscription(status="past_due"))
    work(record(build_event(subject=build_subscription(status="active"))))
    assert projected() == {"sub_1": "past_due"}
    assert statuses() == ["done"]


@pytest.mark.parametrize("order", [*itertools.permutations(["created", "updated", "deleted"])], ids="-".join)
def test_any_order_of_events_ends_in_the_same_projection(stripe, record, work, projected, order):
    """WHK-13, faults row 48."""
    stripe.put(build_subscription(status="canceled", ended_at=stamp(NOON)))
    says = {"created": "incomplete", "updated": "active", "deleted": "canceled"}
    for type in order:
        work(record(build_event(f"customer.subscription.{type}", build_subscription(status=says[type]))))
    assert projected() == {"sub_1": "canceled"}


def test_row_tells_plan_periods_and_what_comes_next(stripe, record, work, database):
    """SUB-3."""
    stripe.put(
        build_subscription(schedule="sub_sched_1", cancel_at_period_end=True),
        {
            "id": "sub_sched_1",
            "object": "subscription_schedule",
            "status": "active",
            "current_phase": {"start_date": stamp(NOON), "end_date": stamp(NOON + timedelta(days=30))},
            "phases": [
                {"start_date": stamp(NOON), "items": [{"price": "price_kiloclaw_standard"}]},
                {"start_date": stamp(NOON + timedelta(days=30)), "items": [{"price": "price_kiloclaw_commit"}]},
            ],
        },
    )
    work(record(build_event("subscription_schedule.updated", {"id": "sub_sched_1", "customer": "cus_1"})))
    with database.read() as connection:
        [row] = projection_store.read_subscriptions(connection, "cus_1")
    assert (row.product, row.plan, row.price_id, row.quantity) == ("kiloclaw", "standard", "price_kiloclaw_standard", 1)
    assert (row.current_period_start, row.current_period_end) == (NOON, NOON + timedelta(days=30))
    assert (row.schedule_id, row.scheduled_plan, row.cancel_at_period_end) == ("sub_sched_1", "commit", True)


def test_subscription_that_stripe_no_longer_lists_leaves_the_projection(stripe, record, work, projected, read):
    """SUB-5."""
    stripe.put(build_subscription(), build_subscription("sub_2", metadata={}, price="price_elsewhere"))
    work(record(build_event()))
    stripe.remove("sub_1")
    work(record(build_event()))
    assert projected() == {"sub_2": "active"}
    assert [row.kind for row in read(outbox)] == ["subscription.activated", "subscription.canceled"]


def test_deleted_customer_is_an_answer(stripe, record, work, projected, read, statuses):
    """SUB-5, faults row 60: no error, no retry, nothing left."""
    stripe.put(build_subscription())
    work(record(build_event()))
    stripe.put({"id": "cus_1", "object": "customer", "deleted": True}, build_subscription(status="canceled"))
    work(record(build_event("customer.deleted", {"id": "cus_1", "object": "customer"})))
    assert projected() == {"sub_1": "canceled"}
    assert read(projections)[0].deleted is True
    stripe.remove("cus_1")
    work(record(build_event()))
    assert projected() == {}
    assert statuses() == ["done"] * 3


def test_customer_that_never_was_is_done_at_once(stripe, record, work, projected, read, statuses):
    """SUB-5: a list filtered by an unknown customer is refused with 400 resource_missing."""
    stripe.before_arrival = failing(StripeRefused("", status=400, stripe_code="resource_missing", param="customer"))
    work(record(build_event()))
    assert (projected(), statuses()) == ({}, ["done"])
    assert read(projections)[0].deleted is True


def test_other_customers_are_not_touched(stripe, record, work, projected):
    """WHK-13."""
    stripe.put({"id": "cus_2", "object": "customer"}, build_subscription("sub_2", customer="cus_2"))
    stripe.put(build_subscription())
    work(record(build_event(subject=build_subscription("sub_2", customer="cus_2"))))
    work(record(build_event()))
    assert (projected("cus_1"), projected("cus_2")) == ({"sub_1": "active"}, {"sub_2": "active"})


# --- old news never overwrites newer


def test_old_fetch_does_not_overwrite_a_newer_one(stripe, record, work, projected, read, database, clock):
    """LED-5: while the first answer was on its way, somebody else (reconciling, say) fetched and wrote a newer one."""
    stripe.put(build_subscription(status="incomplete"))
    first, late = record(build_event()), []

    def overtake(_name):
        if not late:
            late.append(True)
            stripe.put(build_subscription(status="active"))
            sync_customer(
                "cus_1",
                SyncContext(database=database, stripe=stripe, queue=InlineQueue(), clock=clock, catalog=CATALOG),
            )

    stripe.before_arrival = overtake
    work(first)
    assert projected() == {"sub_1": "active"}
    assert read(projections)[0].generation == 2
    assert stripe.calls["list_subscriptions"] == 3  # mine, the other's, mine again
    assert [row.kind for row in read(outbox)] == ["subscription.activated"]


def test_worker_overtaken_every_time_gives_up_and_comes_back(stripe, record, work, database, read, queue):
    """LED-5, LED-7: bounded; it does not write what is old, and does not turn for ever."""
    stripe.put(build_subscription())
    row = record(build_event())

    def overtake(_name):
        with database.write() as connection:
            generation, _rows = projection_store.read_projection(connection, "cus_1")
            projection_store.advance(connection, "cus_1", generation=generation, deleted=None, now=NOON)

    stripe.before_arrival = overtake
    work(row)
    [event] = read(events)
    assert (event.status, event.claim, event.attempts) == ("pending", None, 1)
    assert read(outbox) == []


def test_events_stay_open_when_their_projection_is_not_written(stripe, record, work, statuses, read, monkeypatch):
    """LED-6: done before the projection commits would lose the change for good."""
    stripe.put(build_subscription())
    row = record(build_event())

    def crash(*_arguments, **_keywords):
        raise LedgerUnavailable("killed before the commit")

    monkeypatch.setattr("billing.subscriptions.sync.projection_store.note_troubles", crash)
    with pytest.raises(LedgerUnavailable):
        work(row)
    assert (statuses(), read(projections), read(outbox)) == (["pending"], [], [])


def test_projection_is_not_written_when_its_events_cannot_be_closed(stripe, record, work, read, monkeypatch):
    """LED-6, SUB-4: one transaction, so that the retry notes the change and notes it once."""
    stripe.put(build_subscription())
    row = record(build_event())

    def crash(*_arguments, **_keywords):
        raise LedgerUnavailable("killed before the commit")

    monkeypatch.setattr("billing.webhooks.process.events_store.finish", crash)
    with pytest.raises(LedgerUnavailable):
        work(row)
    assert (read(projections), read(outbox)) == ([], [])


# --- changes


def test_each_change_is_noted_once(stripe, record, work, read):
    """SUB-4: with the user from our own table, and a message id of its own."""
    for subscription in (
        build_subscription(status="incomplete"),
        build_subscription(status="active"),
        build_subscription(status="active"),
        build_subscription(status="active", cancel_at_period_end=True),
        build_subscription(status="canceled"),
    ):
        stripe.put(subscription)
        work(record(build_event()))
    noted = read(outbox)
    kinds = ["subscription.created", "subscription.activated", "subscription.updated", "subscription.canceled"]
    assert [row.kind for row in noted] == kinds
    assert len({row.message_id for row in noted}) == 4
    assert noted[0].payload["subscription"]["status"] == "incomplete"
    assert noted[0].payload["user_id"] is None
    assert [row.payload["access"]["granted"] for row in noted] == [False, True, True, False]


def test_change_names_the_user_by_our_table_and_never_by_metadata(stripe, record, work, read, database):
    """SUB-9, faults row 61."""
    with database.write() as connection:
        mine = {"user_id": "user_1", "customer_id": "cus_1", "idempotency_key": "k", "parameters": {}}
        connection.execute(sa.insert(customers).values(mine | {"created_at": NOON}))
    stripe.put(build_subscription(metadata={"type": "kiloclaw", "user_id": "user_2"}))
    work(record(build_event()))
    assert read(outbox)[0].payload["user_id"] == "user_1"


def test_subscription_to_something_else_is_projected_but_no_news(stripe, record, work, projected, read):
    """SUB-2, SUB-4."""
    stripe.put(build_subscription(metadata={"type": "other"}, price="price_elsewhere"))
    work(record(build_event()))
    assert projected() == {"sub_1": "active"}
    assert read(outbox) == []


def test_past_due_since_is_kept_until_it_is_over(stripe, record, work, database, clock):
    """SUB-7."""
    seen = []
    for status in ("active", "past_due", "past_due", "active", "past_due"):
        stripe.put(build_subscription(status=status))
        work(record(build_event()))
        with database.read() as connection:
            seen.append(projection_store.read_subscriptions(connection, "cus_1")[0].past_due_since)
        clock.advance(days=1)
    assert seen == [None, NOON + timedelta(days=1), NOON + timedelta(days=1), None, NOON + timedelta(days=4)]


# --- duplicates


@pytest.mark.usefixtures("owned")
def test_second_live_subscription_is_one_incident_until_it_is_gone(stripe, record, work, read, database):
    """SUB-8, faults row 45."""
    stripe.put(build_subscription(), build_subscription("sub_2", status="incomplete"))
    for _ in range(3):
        work(record(build_event()))
    [incident] = read(incidents)
    assert (incident.kind, incident.customer_id, incident.product) == ("duplicate_subscription", "cus_1", "kiloclaw")
    assert incident.detail == {"subscriptions": ["sub_1", "sub_2"]}
    with database.read() as connection:
        assert projection_store.count_open_incidents(connection) == 1
    stripe.put(build_subscription("sub_3", status="paused"))
    work(record(build_event()))
    assert [row.detail["subscriptions"] for row in read(incidents)] == [["sub_1", "sub_2", "sub_3"]]
    stripe.put(build_subscription("sub_2", status="incomplete_expired"), build_subscription("sub_3", status="canceled"))
    work(record(build_event()))
    assert [row.resolved_at is not None for row in read(incidents)] == [True]
    stripe.put(build_subscription("sub_3", status="active"))
    work(record(build_event()))
    assert [row.resolved_at is not None for row in read(incidents)] == [True, False]
    with database.read() as connection:
        assert projection_store.count_open_incidents(connection) == 1


@pytest.mark.usefixtures("owned")
def test_subscriptions_to_other_products_are_no_duplicates(stripe, record, work, read):
    """SUB-2, SUB-8."""
    stripe.put(build_subscription(), build_subscription("sub_2", metadata={"type": "x"}, price="price_elsewhere"))
    work(record(build_event()))
    assert read(incidents) == []
