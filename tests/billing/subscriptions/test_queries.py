"""Access, and what a user reads about their subscription."""

import dataclasses
from datetime import timedelta, timezone

import pytest
import sqlalchemy as sa

from billing.catalog import AccessRules
from billing.coordination.queue import InlineQueue
from billing.models import customers
from billing.subscriptions.access import Access, choose, decide_access, iso
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.projection import project
from billing.subscriptions.queries import read_subscription
from billing.webhooks.process import sync_customer
from tests.support.builders import CATALOG, NOON, build_subscription, stamp

SOON, END, GRACE_END = NOON + timedelta(days=3), NOON + timedelta(days=30), NOON + timedelta(days=14)


def row(status="active", **instead):
    """A projected subscription; columns can be said otherwise."""
    built = build_subscription(status=status)
    plain = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    return dataclasses.replace(plain, **instead)


@pytest.mark.parametrize(
    ("subscription", "access"),
    [
        # SUB-10
        (row("active"), Access(True, "active")),
        (row("trialing", trial_end=SOON), Access(True, "trialing")),
        (row("active", cancel_at_period_end=True), Access(True, "active", END)),
        (row("active", cancel_at=SOON), Access(True, "active", SOON)),
        (row("active", cancel_at=SOON, cancel_at_period_end=True), Access(True, "active", SOON)),
        (row("trialing", cancel_at_period_end=True), Access(True, "trialing", END)),
        (row("active", cancel_at=NOON), Access(False, "canceled")),
        (row("active", cancel_at=NOON + timedelta(seconds=1)), Access(True, "active", NOON + timedelta(seconds=1))),
        # SUB-11
        (row("past_due", past_due_since=NOON), Access(True, "past_due_grace", GRACE_END)),
        (
            row("past_due", past_due_since=NOON - timedelta(days=13)),
            Access(True, "past_due_grace", NOON + timedelta(1)),
        ),
        (row("past_due", past_due_since=NOON - timedelta(days=14)), Access(False, "past_due")),
        # SUB-12
        (row("unpaid"), Access(False, "unpaid")),
        (row("incomplete"), Access(False, "incomplete")),
        (row("paused"), Access(False, "paused")),
        (row("canceled"), Access(False, "canceled")),
        (row("canceled", current_period_end=END), Access(False, "canceled")),
        (row("something_new"), Access(False, "unknown_status")),
        (row("incomplete_expired"), Access(False, "no_subscription")),
    ],
    ids=lambda value: value.status if hasattr(value, "status") else f"{value.granted}-{value.reason}",
)
def test_status_decides_access(subscription, access):
    """SUB-10, SUB-11, SUB-12."""
    assert decide_access([subscription], NOON) == access


def test_without_a_subscription_access_is_denied():
    """SUB-13."""
    assert decide_access([], NOON) == Access(False, "no_subscription")


@pytest.mark.parametrize(
    ("statuses", "reason"),
    [
        (["canceled", "active"], "active"),
        (["active", "unpaid"], "active"),
        (["incomplete", "canceled"], "incomplete"),
        (["canceled", "incomplete_expired"], "canceled"),
        (["past_due", "trialing"], "trialing"),
    ],
    ids=str,
)
def test_of_several_the_most_generous_decides(statuses, reason):
    """SUB-14: whatever order they come in."""
    rows = [row(status, past_due_since=NOON, created_at=NOON) for status in statuses]
    assert decide_access(rows, NOON).reason == decide_access(rows[::-1], NOON).reason == reason


TRIAL_ENDS = NOON + timedelta(days=5)


@pytest.mark.parametrize(
    ("statuses", "trial_ends_at", "access"),
    [
        ([], TRIAL_ENDS, Access(True, "product_trial", TRIAL_ENDS)),
        ([], NOON, Access(False, "no_subscription")),
        ([], None, Access(False, "no_subscription")),
        (["incomplete"], TRIAL_ENDS, Access(True, "product_trial", TRIAL_ENDS)),
        (["incomplete_expired"], TRIAL_ENDS, Access(True, "product_trial", TRIAL_ENDS)),
        (["active"], TRIAL_ENDS, Access(True, "active")),
        (["canceled"], TRIAL_ENDS, Access(False, "canceled")),
        (["canceled", "incomplete"], TRIAL_ENDS, Access(False, "incomplete")),
    ],
    ids=str,
)
def test_trial_of_the_product_grants_until_a_subscription_has_begun(statuses, trial_ends_at, access):
    """SUB-65."""
    assert decide_access([row(status) for status in statuses], NOON, trial_ends_at=trial_ends_at) == access


@pytest.mark.parametrize(
    ("columns", "rules", "reason"),
    [
        ({"disputed": True}, {"disputed": "deny"}, "disputed"),
        ({"disputed": True}, {"refunded": "deny"}, "active"),
        ({"disputed": True}, {}, "active"),
        ({"refunded": True}, {"refunded": "deny"}, "refunded"),
        ({"refunded": True}, {"disputed": "deny"}, "active"),
        ({}, {"disputed": "deny", "refunded": "deny", "collection_paused": "deny"}, "active"),
        ({"plan": None, "collection_paused": "void"}, {"collection_paused": "deny"}, "not_sold"),
        ({"status": "unpaid", "disputed": True}, {"disputed": "deny"}, "unpaid"),
    ],
    ids=str,
)
def test_each_rule_of_the_catalog_denies_by_itself(columns, rules, reason):
    """SUB-60, SUB-73, SUB-81."""
    assert decide_access([row(**columns)], NOON, AccessRules(**rules)) == Access(reason == "active", reason)


@pytest.mark.parametrize(
    ("columns", "access"),
    [
        ({}, Access(True, "period_paid", END)),
        ({"cancel_at": SOON}, Access(True, "period_paid", SOON)),
        ({"cancel_at": END + timedelta(days=300)}, Access(True, "period_paid", END)),
        ({"current_period_end": None}, Access(True, "past_due_grace", GRACE_END)),
    ],
    ids=str,
)
def test_paid_period_grants_to_its_end_or_to_an_earlier_one(columns, access):
    """SUB-77."""
    late = row("past_due", payment="paid", past_due_since=NOON, **columns)
    assert decide_access([late], NOON) == access


def test_of_equal_ones_the_newest_is_shown():
    """SUB-14."""
    older, newer = row(subscription_id="sub_1"), row(subscription_id="sub_2", created_at=SOON)
    assert choose([older, newer], NOON) == choose([newer, older], NOON) == newer
    assert choose([], NOON) is None


def test_of_two_granting_ones_the_longer_decides():
    """SUB-14."""
    short, long = row(cancel_at=SOON), row(cancel_at=END)
    assert decide_access([long, short], NOON).until == decide_access([short, long], NOON).until == END
    assert decide_access([short, row()], NOON).until is None


@pytest.fixture
def user_of(database):
    """Give a Stripe customer to a user."""

    def give(user_id, customer_id):
        with database.write() as connection:
            values = {"user_id": user_id, "customer_id": customer_id, "idempotency_key": user_id, "parameters": {}}
            connection.execute(sa.insert(customers).values(values | {"created_at": NOON}))

    return give


@pytest.fixture
def reading(database, stripe, clock, user_of):
    """Sync cus_1, who is user_1, and read as a user."""
    user_of("user_1", "cus_1")

    def reading(*subscriptions, user="user_1"):
        stripe.put(*subscriptions)
        sync_customer(
            "cus_1", SyncContext(database=database, stripe=stripe, queue=InlineQueue(), clock=clock, catalog=CATALOG)
        )
        return read_subscription(user, database=database, catalog=CATALOG, clock=clock)

    return reading


def test_user_reads_access_and_subscription(reading):
    """SUB-9, SUB-15: the whole shape, as the contract has it."""
    answer = reading(build_subscription(cancel_at_period_end=True, canceled_at=stamp(NOON)))
    assert answer == {
        "access": {"granted": True, "reason": "active", "until": "2026-07-01T12:00:00Z"},
        "subscription": {
            "id": "sub_1",
            "plan": "standard",
            "status": "active",
            "quantity": 1,
            "cancel_at_period_end": True,
            "current_period_start": "2026-06-01T12:00:00Z",
            "current_period_end": "2026-07-01T12:00:00Z",
            "cancel_at": "2026-07-01T12:00:00Z",
            "canceled_at": "2026-06-01T12:00:00Z",
            "ended_at": None,
            "trial_end": None,
            "past_due_since": None,
            "commitment_ends_at": None,
            "disputed": False,
            "refunded": False,
            "payment": None,
            "pause_collection": None,
            "scheduled_plan": None,
            "created_at": "2026-06-01T12:00:00Z",
            "client_reference_id": None,
            "metadata": {},
        },
        "product_trial": None,
    }


def test_user_without_anything_reads_null(reading):
    """SUB-13."""
    denied = {"granted": False, "reason": "no_subscription", "until": None}
    nothing = {"access": denied, "subscription": None, "product_trial": None}
    assert reading() == nothing
    assert reading(build_subscription(), user="user_2") == nothing


def test_user_whose_customer_is_not_made_yet_reads_null(reading, user_of):
    """SUB-13: no subscription of a customer 'None' either."""
    user_of("user_2", None)
    assert reading(build_subscription(), user="user_2")["subscription"] is None


def test_metadata_gives_nobody_somebody_elses_subscription(reading, user_of):
    """SUB-9, faults row 61."""
    user_of("user_2", "cus_2")
    claimed = build_subscription(metadata={"type": "kiloclaw", "user_id": "user_2", "customer": "cus_2"})
    assert reading(claimed, user="user_2")["access"]["granted"] is False


def test_subscription_to_another_product_gives_no_access(reading):
    """SUB-9, SUB-2."""
    answer = reading(build_subscription(metadata={"type": "other"}, price="price_elsewhere"))
    assert answer["access"] == {"granted": False, "reason": "no_subscription", "until": None}


def test_ended_subscription_is_shown_until_there_is_a_live_one(reading):
    """SUB-14."""
    ended = build_subscription(status="canceled")
    assert reading(ended)["subscription"]["status"] == "canceled"
    assert reading(build_subscription("sub_2", status="unpaid", created=1))["subscription"]["id"] == "sub_2"


def test_times_are_written_in_utc_with_a_z():
    """SUB-15."""
    assert iso(NOON.astimezone(timezone(timedelta(hours=5)))) == "2026-06-01T12:00:00Z"
    assert iso(None) is None
