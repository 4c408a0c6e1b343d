"""Plans as the catalog sells them: by product, by usage, in another currency; what a switch makes of it."""

from typing import Any

from billing.models import OperationStatus
from billing.operations.calls import Kind
from billing.operations.store import OperationView
from tests.support.operations_world import Shop, change, schedule

SUCCEEDED, REFUSED = OperationStatus.SUCCEEDED, OperationStatus.REFUSED


def code(view: OperationView) -> str | None:
    """Why it was refused."""
    return (view.error or {}).get("code")


def test_switch_finds_the_plan_by_its_stripe_product(shop: Shop) -> None:
    """SUB-34, SUB-73: a price that the catalog does not name, of the product that it does."""
    plans = {key: plan.model_copy(update={"stripe_product": f"prod_{key}"}) for key, plan in shop.catalog.plans.items()}
    price: dict[str, Any] = {"object": "price", "id": "price_by_hand", "product": "prod_standard", "currency": "usd"}
    price |= {"unit_amount": 700, "recurring": {"interval": "month", "interval_count": 1}}
    shop.sandbox.seed([{"object": "product", "id": "prod_standard", "name": "Standard"}, price])
    subscription = shop.subscriber()
    shop.catalog = shop.catalog.model_copy(update={"plans": plans})
    [own] = shop.at_stripe(subscription)["items"]["data"]
    change(shop, f"subscriptions/{subscription}", {"items": [{"id": own["id"], "price": "price_by_hand"}]})
    assert code(shop.done(Kind.SWITCH, plan="standard")) == "already_on_plan"
    assert shop.done(Kind.SWITCH, plan="commit").status is SUCCEEDED
    shop.renew(subscription)
    [own] = shop.at_stripe(subscription)["items"]["data"]
    assert own["price"]["id"] == plans["commit"].price


def test_planned_plan_is_told_by_its_stripe_product(shop: Shop) -> None:
    """SUB-3, SUB-73, SUB-83: finance planned a price that the catalog does not name, of the other plan's product."""
    plans = {key: plan.model_copy(update={"stripe_product": f"prod_{key}"}) for key, plan in shop.catalog.plans.items()}
    price: dict[str, Any] = {"object": "price", "id": "price_by_hand", "product": "prod_commit", "currency": "usd"}
    price |= {"unit_amount": 700, "recurring": {"interval": "month", "interval_count": 6}}
    shop.sandbox.seed([{"object": "product", "id": "prod_commit", "name": "Commit"}, price])
    subscription = shop.subscriber()
    shop.catalog = shop.catalog.model_copy(update={"plans": plans})
    phase = {"items": [{"price": "price_by_hand", "quantity": 1}], "duration": {"interval": "year"}}
    schedule(shop, subscription, then=[phase])
    assert code(shop.done(Kind.CANCEL)) == "managed_elsewhere"  # the look shows it, too
    assert shop.seen()["scheduled_plan"] == "commit"
    assert code(shop.done(Kind.UNDO_SWITCH)) == "managed_elsewhere"


def test_switch_to_a_plan_that_is_billed_by_usage_and_back_has_the_quantity_that_each_wants(shop: Shop) -> None:
    """SUB-34, SUB-83: none for a metered price, at least the least of the other one; both can be taken back."""
    usage: dict[str, Any] = {"object": "price", "id": "price_metered", "product": "prod_usage", "currency": "usd"}
    usage |= {"unit_amount": 3, "recurring": {"interval": "month", "interval_count": 1, "usage_type": "metered"}}
    shop.sandbox.seed([{"object": "product", "id": "prod_usage", "name": "Usage"}, usage])
    own = shop.catalog.plans["standard"].model_copy(update={"max_quantity": 9})
    metered = own.model_copy(update={"key": "usage", "price": "price_metered", "metered": True, "max_quantity": 1})
    shop.catalog = shop.catalog.model_copy(update={"plans": {"standard": own, "usage": metered}})
    subscription = shop.subscriber()
    [item] = shop.at_stripe(subscription)["items"]["data"]
    change(shop, f"subscriptions/{subscription}", {"items": [{"id": item["id"], "quantity": 3}]})
    for plan, quantity in (("usage", None), ("standard", 1)):
        assert shop.done(Kind.SWITCH, plan=plan).status is SUCCEEDED
        assert shop.done(Kind.UNDO_SWITCH).status is SUCCEEDED
        assert shop.at_stripe(subscription)["schedule"] is None
        assert shop.done(Kind.SWITCH, plan=plan).status is SUCCEEDED
        shop.renew(subscription)
        shop.renew(subscription)
        [item] = shop.at_stripe(subscription)["items"]["data"]
        assert (item["price"]["id"], item.get("quantity")) == (shop.catalog.plans[plan].price, quantity)


def in_euros(shop: Shop) -> None:
    """The other plan is sold in another currency than everything else."""
    price: dict[str, Any] = {"object": "price", "id": "price_in_euros", "product": "prod_euros", "currency": "eur"}
    price |= {"unit_amount": 900, "recurring": {"interval": "month", "interval_count": 1}}
    shop.sandbox.seed([{"object": "product", "id": "prod_euros", "name": "Euros"}, price])
    euros = {"price": "price_in_euros", "currency": "eur"}
    plans = {**shop.catalog.plans, "commit": shop.catalog.plans["commit"].model_copy(update=euros)}
    shop.catalog = shop.catalog.model_copy(update={"plans": plans})


def test_switch_to_a_plan_in_another_currency_is_refused_with_both_and_leaves_nothing(shop: Shop) -> None:
    """SUB-34, SUB-87: also when the currencies cannot be read at first."""
    in_euros(shop)
    subscription = shop.subscriber()
    before = shop.at_stripe(subscription)
    for lost in (0, 1):
        if lost:
            shop.sandbox.faults.add("drop_before", path="/v1/prices/", times=lost)
        made = shop.change(Kind.SWITCH, plan="commit")
        shop.work()
        shop.sweep(minutes=1)
        view = shop.look(made.operation_id)
        error = dict(view.error or {})
        assert view.status is REFUSED
        assert error.pop("detail").startswith("Stripe bills this customer in USD, and this plan is sold in EUR.")
        assert error == {"code": "currency_mismatch", "customer_currency": "usd", "plan_currency": "eur"}
        assert shop.at_stripe(subscription) == before
