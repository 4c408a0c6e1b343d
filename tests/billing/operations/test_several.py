"""A buyer with several live subscriptions to the product: what Cancel makes of them, on both databases."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from billing.catalog import AccessRules
from billing.clock import iso
from billing.errors import OPERATORS
from billing.models import OperationStatus, operations
from billing.operations.calls import Kind
from billing.operations.store import OperationView
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.support.operations_world import Shop, change, schedule, year

SUCCEEDED, REFUSED = OperationStatus.SUCCEEDED, OperationStatus.REFUSED


def code(view: OperationView) -> str | None:
    """Why it was refused."""
    return (view.error or {}).get("code")


def test_cancelling_ends_every_subscription_of_the_product(shop: Shop) -> None:
    """SUB-84: the buyer is told that it is done once none of them goes on billing."""
    first = shop.subscriber()
    second = shop.another(first)
    assert shop.done(Kind.CANCEL).status is SUCCEEDED
    assert (shop.is_ending(first), shop.is_ending(second)) == (True, True)
    assert code(shop.done(Kind.CANCEL)) == "already_canceling"
    assert shop.done(Kind.REACTIVATE).status is SUCCEEDED
    assert sorted([shop.is_ending(first), shop.is_ending(second)]) == [False, True], "one of them is enough"
    assert shop.done(Kind.CANCEL).status is SUCCEEDED
    assert (shop.is_ending(first), shop.is_ending(second)) == (True, True)


def test_buyers_button_is_about_the_one_that_they_are_shown(shop: Shop) -> None:
    """SUB-37: what paid for the first is disputed, and the catalog denies access by it; the second grants."""
    shop.catalog = shop.catalog.model_copy(update={"access": AccessRules(disputed="deny")})
    first = shop.subscriber()
    shop.sandbox.dispute(shop.objects("charge")[0]["id"])
    second = shop.another(first)
    shop.sandbox.change_subscription(second, {"cancel_at_period_end": True})
    rest = {name: getattr(shop, name) for name in ("database", "stripe", "clock", "catalog", "queue")}
    sync_customer(shop.at_stripe(first)["customer"], SyncContext(**rest), with_payment_status=True)
    assert shop.seen("user_1")["id"] == second
    assert shop.done(Kind.REACTIVATE).status is SUCCEEDED
    assert shop.at_stripe(second)["cancel_at"] is None


@pytest.mark.parametrize("which", ["shown", "other"])
def test_subscription_that_cannot_be_ended_here_is_named_and_the_other_ends(shop: Shop, which: str) -> None:
    """SUB-84: finance has a schedule over one of the two."""
    first = shop.subscriber()
    second = shop.another(first)
    governed, free = (second, first) if which == "shown" else (first, second)
    id_ = schedule(shop, governed, then=[year(shop)])
    for _ in range(2):
        view = shop.done(Kind.CANCEL)
        error = view.error or {}
        assert (view.status, code(view)) == (REFUSED, "managed_elsewhere")
        assert [(one["id"], one["schedule_id"]) for one in error["still_billing"]] == [(governed, id_)]
        assert governed in error["detail"]
        assert shop.is_ending(free)
        assert shop.at_stripe(governed)["schedule"] == id_


@pytest.mark.parametrize(("status", "why"), [(400, "stripe_refused"), (403, "misconfigured")])
@pytest.mark.parametrize("which", [0, 1], ids=["the first", "the second"])
def test_subscription_whose_cancellation_stripe_refuses_is_named_and_the_other_ends(
    shop: Shop, status: int, why: str, which: int
) -> None:
    """SUB-84, OPS-61: the operator reads the call that was refused, the buyer does not."""
    both = [shop.subscriber()]
    both.append(shop.another(both[0]))
    refused, free = both[which], both[1 - which]
    shop.sandbox.faults.add("status", status=status, method="POST", path=f"^/v1/subscriptions/{refused}$", times=None)
    view = shop.done(Kind.CANCEL)
    assert (view.status, code(view)) == (OperationStatus.FAILED, why)
    assert [one["id"] for one in (view.error or {})["still_billing"]] == [refused]
    assert (shop.is_ending(refused), shop.is_ending(free)) == (False, True)
    [error] = [row.error for row in shop.rows(operations)]
    assert error[OPERATORS].count("POST /v1/subscriptions/{id}") == 1
    assert OPERATORS not in str(view.error)


def test_key_that_may_not_change_subscriptions_ends_none_and_the_operator_reads_why(shop: Shop) -> None:
    """SUB-84, OPS-61: each one still bills, and nobody is told that it ends."""
    first = shop.subscriber()
    second = shop.another(first)
    shop.sandbox.faults.add("status", status=403, method="POST", path="^/v1/subscriptions/sub_", times=None)
    view = shop.done(Kind.CANCEL)
    assert (view.status, code(view)) == (OperationStatus.FAILED, "misconfigured")
    assert {one["id"] for one in (view.error or {})["still_billing"]} == {first, second}
    [error] = [row.error for row in shop.rows(operations)]
    assert error[OPERATORS].count("POST /v1/subscriptions/{id}") == 2


@pytest.mark.parametrize("runs", [True, False])
def test_subscription_that_is_to_begin_later_is_named_and_the_one_that_runs_ends(shop: Shop, runs: bool) -> None:
    """SUB-89: finance planned one; another product's is no concern."""
    subscription = shop.subscriber()
    customer = shop.at_stripe(subscription)["customer"]
    if not runs:
        change(shop, f"subscriptions/{subscription}", {"metadata": {}})
        assert shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}").status == 200
    start = int((shop.clock.now() + timedelta(days=90)).timestamp())
    planned = {"customer": customer, "start_date": start}
    other = {"object": "price", "id": "price_mug", "unit_amount": 500, "currency": "usd"}
    shop.sandbox.seed([other | {"recurring": {"interval": "month", "interval_count": 1}}])
    change(shop, "subscription_schedules", planned | {"phases": [{"items": [{"price": "price_mug"}]}]})
    if runs:
        assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
        assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    ours = change(shop, "subscription_schedules", planned | {"phases": [shop_phase(shop)]})["id"]
    error = shop.done(Kind.CANCEL).error or {}
    assert (error.get("code"), error.get("managed_by")) == ("managed_elsewhere", "schedule")
    [billing] = error["still_billing"]
    assert (billing["id"], billing["changes_at"]) == (ours, iso(datetime.fromtimestamp(start, UTC)))
    assert not runs or shop.is_ending(subscription)


def shop_phase(shop: Shop) -> dict[str, Any]:
    """A phase of the standard plan."""
    return {"items": [{"price": shop.catalog.plans["standard"].price}]}
