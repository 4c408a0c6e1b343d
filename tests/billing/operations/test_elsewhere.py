"""Ends, schedules and items that somebody else made: what a buyer's buttons do beside them, on both databases."""

from datetime import timedelta
from typing import Any

import pytest

from billing.models import OperationStatus
from billing.operations.calls import Kind
from billing.operations.store import OperationView
from tests.support.operations_world import Shop, change, schedule, year

SUCCEEDED, REFUSED = OperationStatus.SUCCEEDED, OperationStatus.REFUSED


def code(view: OperationView) -> str | None:
    """Why it was refused."""
    return (view.error or {}).get("code")


def at_rest(shop: Shop, subscription: str) -> tuple[Any, ...]:
    """Everything of the subscription, and of the schedules, that an operation could change."""
    return shop.at_stripe(subscription), shop.objects("subscription_schedule")


def assert_left_alone(shop: Shop, subscription: str, *, ours: bool) -> None:
    """Its schedule counts as somebody else's for each button, although it was `ours` to begin with."""
    before = at_rest(shop, subscription)
    asked: dict[Kind, dict[str, Any]] = {Kind.CANCEL: {}, Kind.SWITCH: {"plan": "commit"}}
    asked |= {Kind.UNDO_SWITCH: {}} if ours else {}
    for kind, request in asked.items():
        assert code(shop.done(kind, **request)) == "managed_elsewhere", kind
    assert at_rest(shop, subscription) == before


# --- terms


def test_cancelling_within_a_term_and_taking_it_back_restores_the_term(shop: Shop) -> None:
    """SUB-85: support fixed the end in 330 days; the buyer leaves with the period, and thinks again."""
    subscription = shop.subscriber()
    term = int((shop.clock.now() + timedelta(days=330)).timestamp())
    change(shop, f"subscriptions/{subscription}", {"cancel_at": term})
    for _ in range(2):
        assert shop.done(Kind.CANCEL).status is SUCCEEDED
        assert shop.is_ending(subscription)
        assert shop.seen()["cancel_at"] == shop.seen()["current_period_end"]
        assert code(shop.done(Kind.CANCEL)) == "already_canceling"
        assert shop.done(Kind.REACTIVATE).status is SUCCEEDED
        assert shop.at_stripe(subscription)["cancel_at"] == term
    before = at_rest(shop, subscription)
    view = shop.done(Kind.REACTIVATE)
    assert (view.status, code(view), (view.error or {})["managed_by"]) == (REFUSED, "managed_elsewhere", "fixed_end")
    assert (view.error or {})["ends_at"] == shop.seen()["cancel_at"]
    assert code(shop.done(Kind.SWITCH, plan="commit")) == "managed_elsewhere"
    assert at_rest(shop, subscription) == before


def test_end_that_somebody_set_within_the_period_is_not_the_buyers_to_move(shop: Shop) -> None:
    """SUB-31, SUB-85: `cancel_at` in three days."""
    subscription = shop.subscriber()
    change(
        shop,
        f"subscriptions/{subscription}",
        {"cancel_at": int((shop.clock.now() + timedelta(days=3)).timestamp())},
    )
    before = at_rest(shop, subscription)
    assert code(shop.done(Kind.CANCEL)) == "already_canceling"
    assert code(shop.done(Kind.REACTIVATE)) == "managed_elsewhere"
    assert at_rest(shop, subscription) == before


def test_cancellation_in_the_portal_is_the_buyers_own_and_is_taken_back(shop: Shop) -> None:
    """SUB-33: in flexible billing mode it is a `cancel_at` at the end of the period; otherwise the flag."""
    subscription = shop.subscriber()
    for parameters in ({"cancel_at": "max_period_end"}, {"cancel_at_period_end": True}):
        change(shop, f"subscriptions/{subscription}", parameters)
        assert code(shop.done(Kind.CANCEL)) == "already_canceling"
        assert shop.done(Kind.REACTIVATE).status is SUCCEEDED
        assert shop.at_stripe(subscription)["cancel_at"] is None


# --- schedules


GIFT = {"discounts": [{"coupon": "gift"}]}
PLANNED: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "a gift year that ends": ([GIFT], {"end_behavior": "cancel"}),
    "a gift year, then the price": ([GIFT, {}], {"end_behavior": "release"}),
    "the other plan": ([{"plan": "commit"}], {"end_behavior": "release"}),
    "with our tag": ([GIFT], {"end_behavior": "release", "metadata": {"type": "kiloclaw"}}),
    "with a forged mark": (
        [GIFT],
        {"end_behavior": "release", "metadata": {"type": "kiloclaw", "onelane_next": "1780488000:ab"}},
    ),
}


@pytest.mark.parametrize("name", PLANNED)
def test_what_somebody_else_planned_is_not_touched(shop: Shop, name: str) -> None:
    """SUB-83: nothing is changed, and the answer says what it is."""
    shop.sandbox.seed([{"object": "coupon", "id": "gift", "percent_off": 100, "duration": "forever"}])
    subscription = shop.subscriber()
    then, fields = PLANNED[name]
    id_ = schedule(shop, subscription, then=[year(shop, **{"plan": "standard"} | each) for each in then], **fields)
    before = at_rest(shop, subscription)
    ends, switches = fields["end_behavior"] == "cancel", name == "the other plan"
    asked: dict[Kind, dict[str, Any]] = {
        Kind.CANCEL: {},
        Kind.REACTIVATE: {},
        Kind.SWITCH: {"plan": "commit"},
        Kind.UNDO_SWITCH: {},
    }
    for kind, request in asked.items():
        view = shop.done(kind, **request)
        nothing_planned = (kind is Kind.REACTIVATE and not ends) or (kind is Kind.UNDO_SWITCH and not switches)
        assert code(view) == (None if nothing_planned else "managed_elsewhere"), kind
        if not nothing_planned:
            error = view.error or {}
            assert (error["managed_by"], error["schedule_id"], "ends_at" in error) == ("schedule", id_, ends)
    assert at_rest(shop, subscription) == before


@pytest.mark.parametrize(("ours", "number"), [(False, 0), (True, 0), (True, 1)])
def test_schedule_that_bills_something_once_is_somebody_elses(shop: Shop, ours: bool, number: int) -> None:
    """SUB-88: neither lost by a release nor billed twice, in a schedule that plans nothing else and in one of ours."""
    shop.sandbox.seed([{"object": "price", "id": "price_setup", "currency": "usd", "unit_amount": 500}])
    once = {"add_invoice_items": [{"price": "price_setup"}]}
    subscription = shop.subscriber()
    if ours:
        assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
        [made] = shop.objects("subscription_schedule")
    else:
        made = change(shop, "subscription_schedules", {"from_subscription": subscription})
    kept = [
        {"items": [{"price": item["price"], "quantity": 1} for item in each["items"]], "start_date": each["start_date"]}
        | {"end_date": each["end_date"]}
        for each in made["phases"]
    ]
    kept[number] |= once
    change(shop, f"subscription_schedules/{made['id']}", {"phases": kept})
    assert_left_alone(shop, subscription, ours=ours)


@pytest.mark.parametrize("ours", [False, True])
def test_pause_that_somebody_planned_is_not_dropped(shop: Shop, ours: bool) -> None:
    """SUB-83: it stands beside the phases, and a release would end it."""
    subscription = shop.subscriber()
    if ours:
        assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
    else:
        change(shop, "subscription_schedules", {"from_subscription": subscription})
    [made] = shop.objects("subscription_schedule")
    shop.sandbox.store.change("subscription_schedule", made["id"], pause_schedules=[{"key": "holidays"}])
    assert_left_alone(shop, subscription, ours=ours)


def test_our_schedule_that_somebody_edited_is_not_ours_any_more(shop: Shop) -> None:
    """SUB-83: the mark is still there, the phases are others."""
    subscription = shop.subscriber()
    assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
    [ours] = shop.objects("subscription_schedule")
    kept = [
        {
            "items": [{"price": item["price"], "quantity": item["quantity"]} for item in phase["items"]],
            "start_date": phase["start_date"],
            "end_date": phase["end_date"],
        }
        for phase in ours["phases"]
    ]
    change(shop, f"subscription_schedules/{ours['id']}", {"phases": [*kept, year(shop)]})
    before = at_rest(shop, subscription)
    for kind in (Kind.CANCEL, Kind.UNDO_SWITCH):
        assert code(shop.done(kind)) == "managed_elsewhere"
    assert code(shop.done(Kind.SWITCH, plan="commit")) == "managed_elsewhere"
    assert at_rest(shop, subscription) == before


def test_our_schedule_is_ours_before_and_after_the_switch(shop: Shop) -> None:
    """SUB-32, SUB-35, SUB-83: planned it is taken back; once it took effect, there is nothing to take back."""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    assert shop.done(Kind.UNDO_SWITCH).status is SUCCEEDED
    assert shop.at_stripe(subscription)["schedule"] is None
    shop.done(Kind.SWITCH, plan="commit")
    shop.renew(subscription)
    running = shop.at_stripe(subscription)["schedule"]
    assert running is not None
    assert shop.done(Kind.UNDO_SWITCH).status is SUCCEEDED
    assert shop.at_stripe(subscription)["schedule"] == running, "no switch is planned, so nothing is released"
    assert shop.done(Kind.CANCEL).status is SUCCEEDED
    assert shop.is_ending(subscription)


# --- items with their own periods


def beside(shop: Shop, interval: str, **recurring: Any) -> str:
    """A price that the catalog does not sell; its id."""
    id_ = f"price_addon_{interval}"
    price: dict[str, Any] = {"object": "price", "id": id_, "product": "prod_addon", "currency": "usd"}
    price |= {"unit_amount": 300, "recurring": {"interval": interval, "interval_count": 1, **recurring}}
    shop.sandbox.seed([{"object": "product", "id": "prod_addon", "name": "Add-on"}, price])
    return id_


@pytest.mark.parametrize(("plan", "interval"), [("commit", "month"), ("standard", "year")])
@pytest.mark.parametrize("first", [True, False], ids=["add-on first", "plan first"])
def test_plan_ends_with_its_own_period_whatever_is_billed_beside_it(
    shop: Shop, plan: str, interval: str, first: bool
) -> None:
    """SUB-31, SUB-80: six months beside a monthly add-on, a month beside a yearly one."""
    own, addon = shop.catalog.plans[plan].price, beside(shop, interval)
    bought = shop.at_stripe(shop.subscriber(plan=plan))
    ends = bought["items"]["data"][0]["current_period_end"]
    subscription = bought["id"]
    change(shop, f"subscriptions/{subscription}", {"items": [{"price": addon}]})
    if first:
        [mine] = [item["id"] for item in bought["items"]["data"]]
        change(shop, f"subscriptions/{subscription}", {"items": [{"id": mine, "deleted": True}]})
        change(shop, f"subscriptions/{subscription}", {"items": [{"price": own}]})
        [ends] = [
            item["current_period_end"]
            for item in shop.at_stripe(subscription)["items"]["data"]
            if item["price"]["id"] == own
        ]
    assert shop.done(Kind.CANCEL).status is SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at"] == ends
    assert (shop.seen()["cancel_at_period_end"], shop.seen()["cancel_at"]) == (True, shop.seen()["current_period_end"])
    shop.clock.advance(seconds=ends - shop.clock.now().timestamp() - 60)
    assert shop.at_stripe(subscription)["status"] == "active"
    shop.clock.advance(seconds=120)
    assert shop.at_stripe(subscription)["status"] == "canceled"


@pytest.mark.parametrize("bought", ["standard", "commit"])
def test_two_plans_in_one_subscription_end_with_the_longer_one(shop: Shop, bought: str) -> None:
    """SUB-3, SUB-31: support added the other one; nobody loses months that were paid for."""
    other = "commit" if bought == "standard" else "standard"
    subscription = shop.subscriber(plan=bought)
    change(shop, f"subscriptions/{subscription}", {"items": [{"price": shop.catalog.plans[other].price}]})
    ends = max(item["current_period_end"] for item in shop.at_stripe(subscription)["items"]["data"])
    assert shop.done(Kind.CANCEL).status is SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at"] == ends
    assert (shop.seen()["plan"], shop.seen()["cancel_at"]) == ("commit", shop.seen()["current_period_end"])


@pytest.mark.parametrize("interval", ["month", "year"])
def test_switch_comes_with_the_plans_own_period(shop: Shop, interval: str) -> None:
    """SUB-34: a yearly add-on does not put it off, a monthly one does not hurry it."""
    plan, other = ("commit", "standard") if interval == "month" else ("standard", "commit")
    subscription = shop.subscriber(plan=plan)
    change(shop, f"subscriptions/{subscription}", {"items": [{"price": beside(shop, interval)}]})
    ends = shop.at_stripe(subscription)["items"]["data"][0]["current_period_end"]
    assert shop.done(Kind.SWITCH, plan=other).status is SUCCEEDED
    [planned] = shop.objects("subscription_schedule")
    assert planned["phases"][0]["end_date"] == ends
    shop.clock.advance(seconds=ends - shop.clock.now().timestamp() + 60)
    prices = {item["price"]["id"] for item in shop.at_stripe(subscription)["items"]["data"]}
    assert prices == {shop.catalog.plans[other].price, f"price_addon_{interval}"}
