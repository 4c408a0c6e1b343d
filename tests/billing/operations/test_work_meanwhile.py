"""What happens at Stripe, or in the ledger, while an operation is on its way."""

from typing import Any

import pytest

from billing.models import OperationStatus
from billing.operations.calls import Kind
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.support.operations_world import Shop


def test_other_products_subscription_is_never_touched(shop: Shop) -> None:
    """SUB-37"""
    shop.served()
    [customer] = shop.objects("customer")
    shop.sandbox.seed(
        [
            {"object": "product", "id": "prod_x", "name": "Other"},
            {
                "object": "price",
                "id": "price_x",
                "product": "prod_x",
                "unit_amount": 1,
                "currency": "usd",
                "recurring": {"interval": "month"},
            },
        ]
    )
    shop.sandbox.give_card(customer["id"])
    shop.sandbox.request("POST", "/v1/subscriptions", {"customer": customer["id"], "items": [{"price": "price_x"}]})
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "no_subscription"
    assert shop.writes() == []


def test_subscription_that_stripes_list_does_not_show_yet_can_be_changed(shop: Shop) -> None:
    """SUB-37: its user is shown it, since a paid session or an event named it."""
    paid = shop.sandbox.pay(str(shop.served().session_id))
    sync_customer(
        paid["customer"],
        SyncContext(
            database=shop.database, stripe=shop.stripe, queue=shop.queue, clock=shop.clock, catalog=shop.catalog
        ),
        subscriptions=[paid["subscription"]],
    )
    shop.sandbox.faults.add("stale_list", method="GET", path="/v1/", seconds=60, times=None)
    assert shop.seen()["status"] == "active"
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(paid["subscription"]) is True


@pytest.mark.parametrize("call", ["update_subscription", "get_subscription"])
def test_operation_goes_on_with_the_subscription_that_is_left(shop: Shop, call: str) -> None:
    """SUB-37: of two, the one that it chose is ended by somebody else, before its write or after it."""
    first = shop.subscriber()
    second = shop.another(first)
    real, done = getattr(shop.stripe, call), []

    def ended_first(*arguments: Any, **options: Any) -> Any:
        if not done and second in arguments and (call == "update_subscription" or shop.is_ending(second)):
            done.append(shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}"))
        return real(*arguments, **options)

    setattr(shop.stripe, call, ended_first)
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert done, "the newest is the one that is shown"
    assert shop.is_ending(first) is True
    assert (shop.seen()["id"], shop.seen()["cancel_at_period_end"]) == (first, True)


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.REACTIVATE])
def test_last_one_that_ends_before_the_write_arrives_leaves_nothing_to_change(shop: Shop, kind: Kind) -> None:
    """SUB-37: Stripe's refusal says nothing to the buyer that a look does not say better."""
    only = shop.subscriber()
    if kind is Kind.REACTIVATE:
        shop.done(Kind.CANCEL)
    real = shop.stripe.update_subscription

    def ended_first(*arguments: Any, **options: Any) -> Any:
        shop.sandbox.request("DELETE", f"/v1/subscriptions/{only}")
        return real(*arguments, **options)

    shop.stripe.update_subscription = ended_first  # type: ignore[method-assign]
    view = shop.done(kind)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "no_subscription")


def test_cancellation_whose_period_ends_on_the_way_ends_with_the_next_one(shop: Shop) -> None:
    """SUB-31: Stripe refuses the date, which is past by then; it is no failure."""
    subscription = shop.subscriber()
    ends = shop.at_stripe(subscription)["items"]["data"][0]["current_period_end"]
    real = shop.stripe.update_subscription

    def late(*arguments: Any, **options: Any) -> Any:
        shop.stripe.update_subscription = real  # type: ignore[method-assign]
        shop.renew(subscription)
        return real(*arguments, **options)

    shop.stripe.update_subscription = late  # type: ignore[method-assign]
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(subscription)
    assert shop.at_stripe(subscription)["cancel_at"] > ends


def test_operation_never_turns_to_what_was_bought_after_it(shop: Shop) -> None:
    """SUB-37: Stripe was away, the subscription ended, and its user bought anew."""
    first = shop.subscriber()
    shop.sandbox.faults.add("drop_before", method="POST", path=f"^/v1/subscriptions/{first}$", times=6)
    recorded = shop.change(Kind.CANCEL)
    shop.work()
    shop.clock.advance(minutes=10)
    shop.sandbox.faults.clear()
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
    second = shop.another(first)
    shop.sweep(minutes=10)
    view = shop.look(recorded.operation_id)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "no_subscription")
    assert shop.is_ending(second) is False


def test_operation_turns_to_what_was_bought_by_the_second_in_which_it_came(shop: Shop) -> None:
    """SUB-37: Stripe tells whole seconds; the one that it chose is gone, and the other one was there."""
    first = shop.subscriber()
    shop.change(Kind.CANCEL)
    made = {"customer": shop.at_stripe(first)["customer"], "metadata": {"type": shop.catalog.product}}
    made |= {"items": [{"price": shop.catalog.plans["standard"].price}]}
    shop.sandbox.give_card(made["customer"])
    real = shop.stripe.update_subscription

    def bought_anew(*arguments: Any, **options: Any) -> Any:
        shop.stripe.update_subscription = real  # type: ignore[method-assign]
        second.append(str(shop.sandbox.request("POST", "/v1/subscriptions", made).body["id"]))
        shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
        return real(*arguments, **options)

    second: list[str] = []
    shop.stripe.update_subscription = bought_anew  # type: ignore[method-assign]
    shop.work()
    assert shop.is_ending(second[0]) is True
