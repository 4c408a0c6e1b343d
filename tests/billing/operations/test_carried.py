"""Whatever a subscription has beside its plan is as before after any switch, undo or cancellation."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from billing.database import Database
from billing.models import OperationStatus
from billing.operations.calls import Kind
from tests.support.operations_world import Shop

SUCCEEDED = OperationStatus.SUCCEEDED
RATES = ("txr_vat", "txr_city")
COUPONS = ("forever_half", "two_years")
ADDONS = {"price_seats": {"interval": "month"}, "price_usage": {"interval": "month", "usage_type": "metered"}}
ADDONS |= {"price_support": {"interval": "year"}}
# What an operation is there to change, and what only follows from a date.
MOVES = {"schedule", "cancel_at", "cancel_at_period_end", "canceled_at", "cancellation_details"}
MOVES |= {"latest_invoice", "billing_cycle_anchor"}


def furnish(shop: Shop) -> None:
    """Coupons, tax rates and add-ons exist."""
    things: list[dict[str, Any]] = [{"object": "product", "id": "prod_addon", "name": "Add-on"}]
    for id_, recurring in ADDONS.items():
        price = {"object": "price", "id": id_, "product": "prod_addon", "currency": "usd", "unit_amount": 300}
        things.append(price | {"recurring": {"interval_count": 1, **recurring}})
    things += [
        {"object": "coupon", "id": "forever_half", "percent_off": 50, "duration": "forever"},
        {"object": "coupon", "id": "two_years", "percent_off": 10, "duration": "repeating", "duration_in_months": 24},
        *({"object": "tax_rate", "id": id_, "display_name": id_, "percentage": 7, "inclusive": False} for id_ in RATES),
    ]
    shop.sandbox.seed(things)


def kept(subscription: dict[str, Any], plans: set[str]) -> dict[str, Any]:
    """Everything but the plan's price and the dates."""

    def item(one: dict[str, Any]) -> dict[str, Any]:
        dates = {"current_period_start", "current_period_end"}
        of_plan = {"price", "plan"} if one["price"]["id"] in plans else set()
        return {name: value for name, value in one.items() if name not in dates | of_plan}

    rest = {name: value for name, value in subscription.items() if name not in MOVES | {"items"}}
    return rest | {"items": [item(one) for one in subscription["items"]["data"]]}


def dress(shop: Shop, subscription: str, wear: dict[str, Any]) -> None:
    """Put on a subscription what others put there."""
    [own] = shop.at_stripe(subscription)["items"]["data"]
    of_item, of_subscription = dict(wear["item"]), dict(wear["subscription"])
    addons = [{"price": id_, **of_item} for id_ in wear["addons"]]
    changed = {"items": [{"id": own["id"], **of_item}, *addons], "proration_behavior": "none", **of_subscription}
    answer = shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", changed)
    assert answer.status == 200, answer.body


EVERYTHING: dict[str, Any] = {
    "addons": list(ADDONS),
    "item": {"tax_rates": ["txr_city"], "discounts": [{"coupon": "two_years"}], "metadata": {"seat": "7"}},
    "subscription": {
        "automatic_tax": {"enabled": True},
        "collection_method": "send_invoice",
        "days_until_due": 400,
        "default_tax_rates": list(RATES),
        "description": "By contract 17",
        "discounts": [{"coupon": "forever_half"}],
        "metadata": {"contract": "17"},
    },
}


def some(of: dict[str, Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any part of a table."""
    return st.lists(st.sampled_from(sorted(of)), unique=True).map(lambda names: {name: of[name] for name in names})


PARTS = some({name: value for name, value in EVERYTHING["subscription"].items() if name != "days_until_due"}).map(
    lambda made: made | ({"days_until_due": 400} if "collection_method" in made else {})
)
WEARS = st.fixed_dictionaries(
    {
        "addons": st.lists(st.sampled_from(sorted(ADDONS)), unique=True),
        "item": some(EVERYTHING["item"]),
        "subscription": PARTS,
    }
)
WISHES = st.lists(
    st.sampled_from([Kind.SWITCH, Kind.UNDO_SWITCH, Kind.CANCEL, Kind.REACTIVATE]), min_size=1, max_size=4
)


def test_switch_carries_everything_but_the_plans_price(shop: Shop) -> None:
    """SUB-82: add-ons, a metered one too, discounts, tax rates, metadata and terms, planned, in force, and released."""
    furnish(shop)
    plans = {plan.price for plan in shop.catalog.plans.values()}
    subscription = shop.subscriber()
    dress(shop, subscription, EVERYTHING)
    before = kept(shop.at_stripe(subscription), plans)
    assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
    assert kept(shop.at_stripe(subscription), plans) == before
    for _ in range(2):
        shop.renew(subscription)
        now = shop.at_stripe(subscription)
        assert kept(now, plans) == before
        assert now["items"]["data"][0]["price"]["id"] == shop.catalog.plans["commit"].price
    assert now["schedule"] is None


def test_operations_change_nothing_but_the_plans_price_and_its_dates(database: Database) -> None:
    """SUB-82: whatever is there beside the plan, in whatever order the buyer presses the buttons."""
    shop = Shop(database)
    furnish(shop)
    plans = {plan.price for plan in shop.catalog.plans.values()}
    users = iter(range(10_000))

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(WEARS, WISHES, st.booleans())
    def check(wear: dict[str, Any], wishes: list[Kind], renews: bool) -> None:
        user = f"user_{next(users)}"
        subscription = shop.subscriber(user)
        dress(shop, subscription, wear)
        before = kept(shop.at_stripe(subscription), plans)
        for kind in wishes:
            view = shop.done(kind, user, **({"plan": "commit"} if kind is Kind.SWITCH else {}))
            assert view.status is SUCCEEDED or (view.error or {})["code"] == "already_canceling"
            assert kept(shop.at_stripe(subscription), plans) == before
        if renews:
            shop.renew(subscription)
            after = shop.at_stripe(subscription)
            assert after["status"] == "canceled" or kept(after, plans) == before

    check()


def test_plan_is_found_and_switched_behind_ten_add_ons(shop: Shop) -> None:
    """SUB-144: Stripe shows the first ten items with a subscription."""
    month = {"currency": "usd", "unit_amount": 100, "recurring": {"interval": "month"}, "product": "prod_addon"}
    shop.sandbox.seed({"object": "price", "id": f"price_{number}", **month} for number in range(11))
    subscription = shop.subscriber()
    [own] = shop.at_stripe(subscription)["items"]["data"]
    added = [{"price": f"price_{number}"} for number in range(11)]
    plan = {"price": shop.catalog.plans["standard"].price}
    moved = {"items": [{"id": own["id"], "deleted": True}, *added, plan], "proration_behavior": "none"}
    shop.sandbox.change_subscription(subscription, moved)
    assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
    assert (shop.seen("user_1")["plan"], shop.seen("user_1")["scheduled_plan"]) == ("standard", "commit")
    shop.renew(subscription)
    prices = [item["price"]["id"] for item in shop.stripe.get_subscription(subscription)["items"]["data"]]
    assert sorted(prices) == sorted([*(one["price"] for one in added), shop.catalog.plans["commit"].price])
