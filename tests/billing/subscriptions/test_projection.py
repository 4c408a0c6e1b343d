"""The projection's rules, as tables."""

import dataclasses
from datetime import timedelta

import pytest

from billing.subscriptions.invoices import Money, Payment
from billing.subscriptions.projection import Subscription, belongs, differences, is_live, plan_item, project
from tests.support.builders import CATALOG, NOON, build_subscription, stamp

LATER = NOON + timedelta(days=30)


def row_of(subscription, *, schedule=None, before=None, now=NOON, money=None) -> Subscription:
    """Project with the test catalog."""
    rest = {"catalog": CATALOG, "schedule": schedule, "before": before, "now": now, "money": money}
    return project(subscription, customer_id="cus_1", **rest)


@pytest.mark.parametrize(
    ("status", "live"),
    [
        ("incomplete", True),
        ("trialing", True),
        ("active", True),
        ("past_due", True),
        ("unpaid", True),
        ("paused", True),
        ("something_new", True),
        ("canceled", False),
        ("incomplete_expired", False),
    ],
)
def test_only_two_statuses_are_not_live(status, live):
    """SUB-1, faults row 43."""
    assert is_live(status) is live


@pytest.mark.parametrize(
    ("subscription", "ours"),
    [
        ({}, True),
        ({"price": "price_elsewhere"}, True),
        ({"metadata": {}}, True),
        ({"metadata": None, "price": "price_kiloclaw_commit"}, True),
        ({"metadata": {"type": "other"}, "price": "price_kiloclaw_standard"}, True),
        ({"metadata": {"type": "other"}, "price": "price_elsewhere"}, False),
        ({"metadata": {"type": "KILOCLAW"}, "price": "price_elsewhere"}, False),
        ({"metadata": {}, "items": None}, False),
        ({"metadata": {}, "items": {"data": [None, {}, {"price": "price_kiloclaw_standard"}]}}, True),
        ({"metadata": {}, "item": {"price": None}}, False),
    ],
    ids=str,
)
def test_tag_or_price_makes_a_subscription_ours(subscription, ours):
    """SUB-2."""
    assert belongs(build_subscription(**subscription), CATALOG) is ours
    assert row_of(build_subscription(**subscription)).product == ("kiloclaw" if ours else None)


def test_the_item_that_the_catalog_sells_gives_plan_and_period():
    """SUB-3: an add-on before it does not."""
    addon = {"price": {"id": "price_addon"}, "quantity": 9, "current_period_end": 1}
    sold = {"price": {"id": "price_kiloclaw_commit"}, "quantity": 2, "current_period_end": stamp(LATER)}
    row = row_of(build_subscription(items={"data": [addon, sold]}))
    assert (row.plan, row.price_id, row.quantity, row.current_period_end) == (
        "commit",
        "price_kiloclaw_commit",
        2,
        LATER,
    )


@pytest.mark.parametrize(
    ("nonce", "kept"),
    [
        ("0b6f7a3e-9d59-4a57-8b8e-6d2f0c1e5a77", True),
        ("0b6f7a3e-9d59-4a57-8b8e-6d2f0c1e5a7", False),
        ("0b6f7a3e-9d59-4a57-8b8e-6d2f0c1e5a77 and more", False),
        ("order 17", False),
        ("", False),
        (17, False),
        (None, False),
    ],
)
def test_nonce_is_kept_where_it_is_written_like_one_of_ours(nonce, kept):
    """SUB-86: other programs' metadata may have any text by that name."""
    row = row_of(build_subscription(metadata={"type": "kiloclaw", "nonce": nonce}))
    assert row.nonce == (nonce if kept else None)


@pytest.mark.parametrize(
    ("planned", "ends_at", "at_period_end"),
    [
        ({}, None, False),
        ({"cancel_at_period_end": True}, "addon", True),
        ({"cancel_at_period_end": True, "cancel_at": "addon"}, "addon", True),
        ({"cancel_at": "plan"}, "plan", True),
        ({"cancel_at": "addon"}, "addon", False),
        ({"cancel_at": "term"}, "term", False),
    ],
    ids=str,
)
def test_planned_end_is_shown_with_its_date_and_whether_it_is_the_plans_own(planned, ends_at, at_period_end):
    """SUB-80: a plan of 30 days beside an add-on of ten."""
    times = {"addon": NOON + timedelta(days=10), "plan": LATER, "term": NOON + timedelta(days=330)}
    addon = {"price": {"id": "price_addon"}, "current_period_end": stamp(times["addon"])}
    sold = {"price": {"id": "price_kiloclaw_commit"}, "current_period_end": stamp(times["plan"])}
    told = {name: stamp(times[value]) if value in times else value for name, value in planned.items()}
    row = row_of(build_subscription(items={"data": [addon, sold]}, **told))
    assert (row.cancel_at, row.cancel_at_period_end) == (times.get(ends_at), at_period_end)


def test_subscription_without_anything_is_still_a_row():
    """SUB-3: Stripe's answer is never a reason to fail."""
    row = row_of({"id": "sub_1", "status": "active"})
    assert (row.plan, row.price_id, row.current_period_end, row.created_at) == (None, None, None, NOON)
    assert (row.cancel_at_period_end, row.commitment_ends_at) == (False, None)
    assert row_of({"id": "sub_1", "status": "active", "cancel_at_period_end": True}).cancel_at is None


@pytest.mark.parametrize("name", ["canceled_at", "ended_at", "trial_end"])
def test_times_of_a_subscription_are_its_own(name):
    """SUB-3: each by its name, and none for another."""
    row = row_of(build_subscription(**{name: stamp(LATER)}))
    times = {each: getattr(row, each) for each in ("canceled_at", "ended_at", "trial_end")}
    assert times == {**dict.fromkeys(times), name: LATER}


@pytest.mark.parametrize(
    ("prices", "chosen"),
    [
        ([("price_kiloclaw_standard", 30), ("price_kiloclaw_commit", 180)], "price_kiloclaw_commit"),
        ([("price_kiloclaw_commit", 180), ("price_kiloclaw_standard", 30)], "price_kiloclaw_commit"),
        ([("price_kiloclaw_standard", 30), ("price_addon", 365)], "price_kiloclaw_standard"),
        ([("price_of_product", 365), ("price_kiloclaw_standard", 30)], "price_kiloclaw_standard"),  # named goes first
        ([("price_addon", 365), ("price_of_product", 30)], "price_of_product"),
        ([("price_of_product", 30), ("price_of_product_2", 90)], "price_of_product_2"),
        ([("price_addon", 30), ("price_other", 365)], "price_addon"),  # nothing is sold: as Stripe lists them
        ([("price_kiloclaw_standard", None)], "price_kiloclaw_standard"),
        ([], None),
    ],
)
def test_plans_own_item_is_named_before_sold_and_ends_last(prices, chosen):
    """SUB-3."""
    plans = {**CATALOG.plans, "standard": CATALOG.plans["standard"].model_copy(update={"stripe_product": "prod_1"})}
    items = [
        {"price": {"id": id_, "product": "prod_1" if "of_product" in id_ else "prod_2"}}
        | {"current_period_end": days and stamp(NOON + timedelta(days=days))}
        for id_, days in prices
    ]
    item = plan_item(build_subscription(items={"data": items}), CATALOG.model_copy(update={"plans": plans}))
    assert item.get("price", {}).get("id") == chosen


@pytest.mark.parametrize(
    ("money", "seen"),
    [
        (None, ("overdue", NOON, True, False)),  # nobody asked: as it was
        (Money(), (None, None, True, False)),
        (Money(disputed=False, refunded=True), (None, None, False, True)),
        (Money(Payment.OVERDUE), ("overdue", NOON, True, False)),
        (Money(Payment.OVERDUE, past_due_since=LATER), ("overdue", LATER, True, False)),  # the invoices say it
        (Money(Payment.FIRST_PENDING, past_due_since=LATER), ("first_pending", None, True, False)),
    ],
    ids=str,
)
def test_what_was_not_asked_stays_and_what_was_answered_holds(money, seen):
    """SUB-7, SUB-60, SUB-77."""
    before = dataclasses.replace(row_of(build_subscription()), payment="overdue", past_due_since=NOON, disputed=True)
    row = row_of(build_subscription(), before=before, now=LATER, money=money)
    assert (row.payment, row.past_due_since, row.disputed, row.refunded) == seen
    only = row_of(build_subscription(), before=dataclasses.replace(before, disputed=False, refunded=True))
    assert (only.disputed, only.refunded) == (False, True)


def phase(price, start):
    """One phase of a schedule."""
    return {"start_date": stamp(start), "items": [{"price": price}]}


@pytest.mark.parametrize(
    ("schedule", "plan"),
    [
        ({}, "commit"),
        ({"status": "not_started"}, "commit"),
        ({"status": "released"}, None),
        ({"status": "canceled"}, None),
        ({"phases": [phase("price_kiloclaw_standard", NOON)]}, None),
        ({"phases": [phase("price_kiloclaw_standard", NOON), phase("price_kiloclaw_standard", LATER)]}, None),
        ({"phases": [phase("price_kiloclaw_commit", NOON), phase("price_kiloclaw_standard", LATER)]}, None),
        ({"phases": [phase("price_kiloclaw_standard", NOON), phase({"id": "price_kiloclaw_commit"}, LATER)]}, "commit"),
        ({"phases": None}, None),
    ],
    ids=str,
)
def test_schedule_tells_the_plan_that_comes_next(schedule, plan):
    """SUB-3: another one than now, in a phase that has not begun."""
    whole = {
        "status": "active",
        "current_phase": {"start_date": stamp(NOON), "end_date": stamp(LATER)},
        "phases": [phase("price_kiloclaw_standard", NOON), phase("price_kiloclaw_commit", LATER)],
    }
    assert row_of(build_subscription(schedule="sub_sched_1"), schedule=whole | schedule).scheduled_plan == plan


def test_of_several_phases_to_come_the_next_one_names_the_plan():
    """SUB-3: in whatever order they are listed."""
    listed = [phase("price_kiloclaw_standard", LATER + timedelta(days=30)), phase("price_kiloclaw_commit", LATER)]
    schedule = {"status": "active", "current_phase": {"start_date": stamp(NOON), "end_date": stamp(LATER)}}
    bought = build_subscription(schedule="sub_sched_1", price="price_elsewhere")
    assert row_of(bought, schedule=schedule | {"phases": listed}).scheduled_plan == "commit"


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (None, "incomplete", "subscription.created"),
        (None, "active", "subscription.activated"),
        (None, "trialing", "subscription.activated"),
        (None, "canceled", "subscription.canceled"),
        ("incomplete", "active", "subscription.activated"),
        ("incomplete", "incomplete_expired", "subscription.expired"),
        ("trialing", "active", "subscription.updated"),
        ("active", "past_due", "subscription.past_due"),
        ("past_due", "active", "subscription.activated"),
        ("past_due", "unpaid", "subscription.unpaid"),
        ("active", "paused", "subscription.paused"),
        ("active", "canceled", "subscription.canceled"),
        ("active", None, "subscription.canceled"),
        ("active", "something_new", "subscription.updated"),
        ("active", "active", None),
        ("canceled", "canceled", None),
    ],
)
def test_change_of_status_has_one_word(before, after, kind):
    """SUB-4."""
    old, new = ([row_of(build_subscription(status=status))] if status else [] for status in (before, after))
    assert [change.kind for change in differences(old, new)] == ([kind] if kind else [])


def test_change_of_anything_else_is_an_update():
    """SUB-4."""
    old = row_of(build_subscription())
    for field in dataclasses.fields(Subscription):
        if field.compare and field.name not in ("subscription_id", "product", "status"):
            changed = dataclasses.replace(old, **{field.name: "other"})
            assert [change.kind for change in differences([old], [changed])] == ["subscription.updated"]


def test_subscription_that_stops_being_ours_is_still_news():
    """SUB-4."""
    old, new = row_of(build_subscription()), row_of(build_subscription(metadata={}, price="price_elsewhere"))
    assert len(differences([old], [new])) == 1
    assert differences([new], [dataclasses.replace(new, quantity=2)]) == []


def test_past_due_since_begins_with_past_due_and_ends_with_it():
    """SUB-7."""
    first = row_of(build_subscription(status="past_due"), before=row_of(build_subscription()), now=NOON)
    again = row_of(build_subscription(status="past_due"), before=first, now=LATER)
    assert (first.past_due_since, again.past_due_since) == (NOON, NOON)
    assert row_of(build_subscription(), before=again, now=LATER).past_due_since is None
