"""A buyer who pays, or is authenticated by their bank, while the next checkout is worked."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from billing.models import CheckoutStatus
from sandbox.errors import ApiError
from tests.support.checkout_world import World


def test_buyer_who_pays_while_the_expire_is_under_way_is_already_subscribed(world: World) -> None:
    """LAN-8, LAN-20, faults 39, 40: the refused expire is looked into; one subscription exists."""
    first = world.served()
    pay_before(world, "expire_session", str(first.session_id))
    second = world.served("commit")
    assert second.status is CheckoutStatus.REFUSED
    assert second.error is not None
    assert second.error["code"] == "already_subscribed"
    assert len(world.objects("subscription")) == 1
    assert world.sessions("open") == []
    assert world.view(first.id).status is CheckoutStatus.COMPLETED


@pytest.mark.parametrize(
    "call",
    ["list_sessions", "list_subscriptions", "get_session", "expire_session", "create_session", "get_subscription"],
)
def test_buyer_pays_before_any_call_and_is_billed_once(world: World, call: str) -> None:
    """CHK-7, fault 40: at each call of the second checkout's pass, the first is paid just before it."""
    first = world.served()
    pay_before(world, call, str(first.session_id))
    second = world.served("commit")
    if second.status is CheckoutStatus.OPEN:  # the first was expired before it could be paid
        world.sandbox.pay(str(second.session_id))
    assert len(world.objects("subscription")) <= 1


@pytest.mark.parametrize("plan", ["standard", "commit"])
@pytest.mark.parametrize(
    "call", ["list_sessions", "list_subscriptions", "get_session", "expire_session", "create_session", None]
)
def test_buyer_who_authenticates_while_the_session_expires_has_paid_or_has_not(
    world: World, call: str | None, plan: str
) -> None:
    """LAN-50, fault 41: before any call of the next checkout's pass, or when that is over; either outcome is whole."""
    first = world.served()
    world.sandbox.challenge(str(first.session_id))
    if call:
        before(world, call, lambda: authenticate(world, str(first.session_id)))
    second = world.served(plan)
    authenticate(world, str(first.session_id))
    [begun] = world.objects("subscription")
    paid = [one for one in world.objects("charge") if one["paid"]]
    if begun["status"] == "active":
        assert (len(paid), world.sessions("open")) == (1, [])
        assert (second.status, (second.error or {})["code"]) == (CheckoutStatus.REFUSED, "already_subscribed")
        assert world.view(first.id).status is CheckoutStatus.COMPLETED
    else:
        assert (begun["status"], paid) == ("incomplete_expired", [])
        assert second.status is CheckoutStatus.OPEN
        assert [one["id"] for one in world.sessions("open")] == [second.session_id]


@pytest.mark.parametrize(("call", "status"), [("expire_session", "active"), ("create_session", "incomplete_expired")])
def test_authenticating_wins_before_the_expiry_and_loses_after_it(world: World, call: str, status: str) -> None:
    """LAN-50, fault 41: both outcomes come about."""
    first = world.served()
    world.sandbox.challenge(str(first.session_id))
    before(world, call, lambda: authenticate(world, str(first.session_id)))
    world.served("commit")
    assert [one["status"] for one in world.objects("subscription")] == [status]


def test_completed_session_whose_subscription_the_list_lacks_still_blocks(world: World) -> None:
    """LAN-20, fault 42: the list of subscriptions lags; the paid session names its subscription, which is fetched."""
    first = world.served()
    world.sandbox.pay(str(first.session_id))
    world.sandbox.faults.add("stale_list", method="GET", path="^/v1/subscriptions$", seconds=3600, times=None)
    second = world.served("commit")
    assert second.status is CheckoutStatus.REFUSED
    assert world.requests("GET", "/v1/subscriptions/sub_")


def test_paid_stray_blocks_although_every_list_lags(world: World) -> None:
    """LAN-8, LAN-11: a stray that was paid before its expire counts by its own subscription."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    stray = str(world.sandbox.request("POST", "/v1/checkout/sessions", world.legacy(customer_id)).body["id"])
    pay_before(world, "expire_session", stray)
    world.sandbox.faults.add("stale_list", method="GET", path="^/v1/subscriptions$", seconds=3600, times=None)
    view = world.served()
    assert view.status is CheckoutStatus.REFUSED
    assert world.sessions("open") == []


def pay_before(world: World, call: str, session_id: str) -> None:
    """The buyer pays just before the next call of this name, if the session can still be paid then."""

    def pay() -> None:
        if (world.sandbox.session(session_id) or {})["status"] == "open":
            world.sandbox.pay(session_id)

    before(world, call, pay)


def before(world: World, call: str, happens: Callable[[], None]) -> None:
    """Something happens just before the next call of this name, once."""
    real, done = getattr(world.stripe, call), []

    def first(*arguments: Any, **options: Any) -> Any:
        if not done:
            done.append(call)
            happens()
        return real(*arguments, **options)

    setattr(world.stripe, call, first)


def authenticate(world: World, session_id: str) -> None:
    """The buyer says yes to their bank; when the session is over by then, so is the payment."""
    with suppress(ApiError):
        world.sandbox.authenticate(session_id)
