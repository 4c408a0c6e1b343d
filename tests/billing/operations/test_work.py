"""Cancel, reactivate, switch and undo: over the sandbox, on both databases."""

from typing import Any

from billing.models import OperationStatus
from billing.operations.calls import Kind
from tests.support.operations_world import Shop

# --- what each of them does


def test_cancel_ends_at_the_end_of_the_period_and_can_be_taken_back(shop: Shop) -> None:
    """SUB-31, SUB-33, SUB-36: at Stripe, and in what the user reads right after the answer."""
    subscription = shop.subscriber()

    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(subscription) is True
    assert (shop.seen()["cancel_at_period_end"], shop.seen()["status"]) == (True, "active")
    assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(subscription) is False
    assert shop.seen()["cancel_at_period_end"] is False


def test_cancelling_twice_is_refused_and_undoing_nothing_succeeds(shop: Shop) -> None:
    """SUB-31, SUB-33, SUB-35"""
    shop.subscriber()
    assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    assert shop.done(Kind.UNDO_SWITCH).status is OperationStatus.SUCCEEDED
    assert shop.writes() == []
    shop.done(Kind.CANCEL)
    again = shop.done(Kind.CANCEL)
    assert (again.status, (again.error or {})["code"]) == (OperationStatus.REFUSED, "already_canceling")
    assert (again.error or {})["ends_at"] == shop.seen()["current_period_end"]


def test_switch_happens_at_the_end_of_the_period_on_the_same_subscription(shop: Shop) -> None:
    """SUB-34, SUB-36: two phases, one subscription, no proration; the sync completes it."""
    subscription = shop.subscriber()

    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("standard", "commit")
    [schedule] = shop.objects("subscription_schedule")
    assert [phase["items"][0]["price"] for phase in schedule["phases"]] == [
        shop.catalog.plans["standard"].price,
        shop.catalog.plans["commit"].price,
    ]
    assert {phase["proration_behavior"] for phase in schedule["phases"]} == {"none"}
    shop.renew(subscription)
    item = shop.at_stripe(subscription)["items"]["data"][0]
    assert item["price"]["id"] == shop.catalog.plans["commit"].price
    assert len(shop.objects("subscription")) == 1
    again = shop.done(Kind.SWITCH, plan="commit")
    assert (again.error or {})["code"] == "already_on_plan"
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("commit", None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.at_stripe(subscription)["items"]["data"][0]["price"]["id"] == shop.catalog.plans["commit"].price


def test_switch_is_taken_back_by_releasing_the_schedule(shop: Shop) -> None:
    """SUB-35"""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    assert shop.done(Kind.UNDO_SWITCH).status is OperationStatus.SUCCEEDED
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("standard", None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["items"]["data"][0]["price"]["id"] == shop.catalog.plans["standard"].price


def test_switching_to_another_plan_replaces_the_planned_one(shop: Shop) -> None:
    """SUB-34: also a schedule that was begun and left, by us or in the Dashboard."""
    subscription = shop.subscriber()
    shop.sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": subscription})
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    before = len(shop.writes())
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED, "it is planned already"
    assert len(shop.writes()) == before
    assert len(shop.objects("subscription_schedule")) == 1


def test_cancel_releases_a_planned_switch_first(shop: Shop) -> None:
    """SUB-32"""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    before = len(shop.writes())
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    released, canceled = shop.writes()[before:]
    assert released.endswith("/release")
    assert canceled == f"subscriptions/{subscription}"
    assert (shop.seen()["cancel_at_period_end"], shop.seen()["scheduled_plan"]) == (True, None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["status"] == "canceled"


def test_cancel_goes_on_when_the_schedule_was_released_by_somebody_else(shop: Shop) -> None:
    """SUB-32: between our look and our release."""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    real = shop.stripe.release_schedule

    def late(schedule_id: str, *, idempotency_key: str) -> None:
        shop.sandbox.request("POST", f"/v1/subscription_schedules/{schedule_id}/release")
        real(schedule_id, idempotency_key=idempotency_key)

    shop.stripe.release_schedule = late  # type: ignore[method-assign]
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(subscription) is True


def test_cancel_stops_and_says_so_when_the_schedule_cannot_be_released(shop: Shop) -> None:
    """SUB-32: any other refusal."""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    shop.sandbox.faults.add("status", status=400, path="/release$")
    view = shop.done(Kind.CANCEL)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "stripe_refused")
    assert "nothing else was changed" in (view.error or {})["detail"]
    assert shop.is_ending(subscription) is False
    assert shop.seen()["scheduled_plan"] == "commit"


def test_refused_switch_leaves_no_schedule_behind(shop: Shop) -> None:
    """SUB-34: the price of the next plan is not sold any more, say."""
    subscription = shop.subscriber()
    price = shop.catalog.plans["commit"].price
    assert shop.sandbox.request("POST", f"/v1/prices/{price}", {"active": "false"}).status == 200
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "stripe_refused")
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.seen()["scheduled_plan"] is None


def test_switch_that_would_lose_something_leaves_no_schedule_behind(shop: Shop) -> None:
    """SUB-34, SUB-82: only the phase that Stripe makes shows it."""
    subscription = shop.subscriber()
    real = shop.stripe.get_schedule

    def with_a_novelty(schedule_id: str) -> dict[str, Any]:
        found = real(schedule_id)
        return {**found, "phases": [{**phase, "novelty": "on"} for phase in found["phases"]]}

    shop.stripe.get_schedule = with_a_novelty  # type: ignore[method-assign]
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "not_switchable")
    assert shop.objects("subscription_schedule"), "it was made, and went again"
    assert shop.at_stripe(subscription)["schedule"] is None


def test_switch_that_fails_for_want_of_a_permission_removes_its_schedule_once_it_may(shop: Shop) -> None:
    """SUB-34: the key may make schedules and not change them; then the operator mends that."""
    subscription = shop.subscriber()
    shop.sandbox.faults.add("status", status=403, method="POST", path="^/v1/subscription_schedules/", times=3)
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, view.trouble) == (OperationStatus.PENDING, "misconfigured")
    for _ in range(4):
        shop.sweep(minutes=10)
    view = shop.look(view.id)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "misconfigured")
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.seen()["scheduled_plan"] is None


def test_switch_is_refused_while_the_subscription_is_about_to_end(shop: Shop) -> None:
    """SUB-34"""
    shop.subscriber()
    shop.done(Kind.CANCEL)
    assert (shop.done(Kind.SWITCH, plan="commit").error or {})["code"] == "already_canceling"
    assert shop.objects("subscription_schedule") == []


# --- who may, and what is refused


def test_first_payment_that_is_not_settled_is_in_the_way(shop: Shop) -> None:
    """SUB-37"""
    shop.sandbox.force_status(shop.subscriber(), "incomplete")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "payment_in_progress"


def test_paused_subscription_is_not_switched(shop: Shop) -> None:
    """SUB-34: Stripe would bill nobody for the next phase either."""
    subscription = shop.subscriber()
    shop.sandbox.force_status(subscription, "paused")
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "not_switchable")
    assert shop.at_stripe(subscription)["schedule"] is None


def test_buyer_whose_subscription_is_paused_leaves_and_buys_again(shop: Shop) -> None:
    """SUB-31: it has no period that runs, so its end is near."""
    subscription = shop.subscriber()
    shop.sandbox.force_status(subscription, "paused")
    shop.clock.advance(days=40)
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    shop.clock.advance(hours=1)
    assert shop.at_stripe(subscription)["status"] == "canceled"
    assert shop.served("commit").status == "open"


def test_switch_wants_a_quantity_that_the_other_plan_is_sold_in(shop: Shop) -> None:
    """SUB-34: and takes it along."""
    plan = shop.catalog.plans["commit"].model_copy(update={"min_quantity": 2, "max_quantity": 5})
    shop.catalog = shop.catalog.model_copy(update={"plans": {**shop.catalog.plans, "commit": plan}})
    subscription = shop.subscriber()
    item = shop.at_stripe(subscription)["items"]["data"][0]["id"]
    for quantity, refused in ((1, True), (2, False), (5, False), (6, True)):
        changed = {"items": [{"id": item, "quantity": quantity}], "proration_behavior": "none"}
        assert shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", changed).status == 200
        view = shop.done(Kind.SWITCH, plan="commit")
        if refused:
            assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "invalid_request")
            assert f"has {quantity}" in (view.error or {})["detail"]
            continue
        assert view.status is OperationStatus.SUCCEEDED, view.error
        [planned] = shop.objects("subscription_schedule")[0]["phases"][-1]["items"]
        assert planned["quantity"] == quantity
        assert shop.done(Kind.UNDO_SWITCH).status is OperationStatus.SUCCEEDED


# --- crashes, faults, several at once


def test_checkout_after_a_cancellation_is_refused_until_the_end(shop: Shop) -> None:
    """SUB-39: a subscription that is about to end still counts."""
    subscription = shop.subscriber()
    shop.done(Kind.CANCEL)
    assert (shop.served().error or {})["code"] == "already_subscribed"
    shop.renew(subscription)
    assert shop.served().url is not None
