"""Until when a buyer of a plan with a commitment is bound, as it is shown and renewed."""

from datetime import UTC, datetime, timedelta

import pytest

from billing.catalog import parse_catalog
from billing.clock import add_months, iso
from billing.errors import ConfigurationError
from billing.subscriptions.projection import project
from tests.support.builders import CATALOG, NOON, build_subscription, stamp


@pytest.mark.parametrize(
    ("start", "months", "end"),
    [
        ((2027, 1, 31), 1, (2027, 2, 28)),
        ((2028, 1, 31), 1, (2028, 2, 29)),
        ((2026, 8, 31), 6, (2027, 2, 28)),
        ((2026, 12, 15), 1, (2027, 1, 15)),
        ((2026, 11, 30), 36, (2029, 11, 30)),
    ],
)
def test_months_are_the_calendars(start, months, end):
    """SUB-67"""
    assert add_months(datetime(*start, 9, tzinfo=UTC), months) == datetime(*end, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("anchor", "period_start", "end"),
    [
        ((2026, 8, 31), (2026, 8, 3), (2027, 2, 28)),  # billing starts later
        ((2026, 8, 31), (2026, 8, 31), (2027, 2, 28)),
        ((2026, 8, 31), (2027, 2, 28), (2027, 8, 31)),  # not the 28th: the anchor counts
        ((2026, 8, 31), (2027, 8, 31), (2028, 2, 29)),
        ((2026, 8, 31), (2026, 10, 2), (2027, 2, 28)),  # seen late, within the term
    ],
)
def test_commitment_ends_whole_terms_after_the_anchor(anchor, period_start, end):
    """SUB-67: extended on renewal."""
    moment = {name: stamp(datetime(*day, 9, tzinfo=UTC)) for name, day in (("a", anchor), ("p", period_start))}
    built = build_subscription(
        price="price_kiloclaw_commit", item={"current_period_start": moment["p"]}, billing_cycle_anchor=moment["a"]
    )
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == datetime(*end, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("status", "period_start", "trial_end", "end"),
    [
        ("active", (2027, 2, 28), (2026, 8, 31), (2027, 8, 31)),  # renewed, and the trial is long over
        ("trialing", (2026, 8, 3), (2026, 8, 31), (2027, 2, 28)),
        ("canceled", (2027, 2, 28), (2026, 8, 31), None),
    ],
)
def test_commitment_after_a_trial_is_by_what_is_paid_for(status, period_start, trial_end, end):
    """SUB-67: and nobody is bound by what is over."""
    start, august = (stamp(datetime(*day, 9, tzinfo=UTC)) for day in (period_start, trial_end))
    built = build_subscription(
        status=status,
        price="price_kiloclaw_commit",
        item={"current_period_start": start},
        billing_cycle_anchor=august,
        trial_end=august,
    )
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == (end and datetime(*end, 9, tzinfo=UTC))


def test_commitment_is_the_plans_own_period_where_another_item_set_the_anchor():
    """SUB-67, SUB-80: a yearly add-on since January, the plan since March."""
    january, march, september = (stamp(datetime(2026, month, 15, tzinfo=UTC)) for month in (1, 3, 9))
    item = {"current_period_start": march, "current_period_end": september}
    built = build_subscription(price="price_kiloclaw_commit", item=item, billing_cycle_anchor=january)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOON)
    assert row.commitment_ends_at == row.current_period_end == datetime(2026, 9, 15, tzinfo=UTC)


def test_commitment_is_shown_and_extended_when_it_renews(shop):
    """SUB-67: and is the end of Stripe's period. On another plan there is none."""
    checkout = shop.served("commit")
    shop.sandbox.pay(str(checkout.session_id))
    customer = shop.objects("subscription")[0]["customer"]
    shop.sync(customer)
    first = shop.read()["subscription"]
    assert first["commitment_ends_at"] == first["current_period_end"]
    assert first["commitment_ends_at"] == iso(add_months(shop.clock.now(), 6))
    shop.renew()
    shop.sync(customer)
    second = shop.read()["subscription"]
    assert second["commitment_ends_at"] == second["current_period_end"] > first["commitment_ends_at"]
    other = shop.subscribe("user_2")
    shop.sync(other)
    assert shop.read("user_2")["subscription"]["commitment_ends_at"] is None


def test_trial_binds_nobody(shop):
    """SUB-67: the term begins when the trial ends."""
    ends = stamp(shop.clock.now() + timedelta(days=10))
    plan = shop.catalog.plans["commit"].model_copy(update={"trial_end": ends})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "commit": plan}})
    checkout = shop.served("commit")
    shop.sandbox.pay(str(checkout.session_id))
    shop.sync(shop.objects("subscription")[0]["customer"])
    shown = shop.read()["subscription"]
    assert shown["status"] == "trialing"
    assert shown["commitment_ends_at"] == iso(add_months(datetime.fromtimestamp(ends, UTC), 6))


def test_commitment_longer_than_a_period_is_refused():
    """SUB-66: nobody would keep the buyer to it."""
    plan = {"name": "A", "price": "price_a", "interval": "month", "commitment_months": 6}
    with pytest.raises(ConfigurationError, match="one period"):
        parse_catalog({"product": {"key": "p"}, "plans": {"a": plan}})
    yearly = {**plan, "interval": "year", "commitment_months": 12}
    assert parse_catalog({"product": {"key": "p"}, "plans": {"a": yearly}}).plans["a"].commitment_months == 12
