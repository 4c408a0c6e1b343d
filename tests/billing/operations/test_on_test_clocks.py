"""A buyer who lives on a test clock of Stripe's, far from the real time: nothing that they can do is confused by it."""

from typing import Any

import pytest

from billing.customers.customers import claim_customer
from billing.models import OperationStatus
from billing.operations.calls import Kind
from billing.operations.requests import read_operation
from billing.subscriptions.queries import read_subscription
from tests.support.reconcile_world import Shop

CLOCKS = "/v1/test_helpers/test_clocks"
DAY = 86400


class Clocked(Shop):
    """A shop whose buyer lives on a clock."""

    def put_on_a_clock(self, at: int) -> None:
        """A customer is made on it and taken over, and buys by a payment page, which is in real time."""
        self.clock_id = self.post(CLOCKS, frozen_time=at)["id"]
        customer = self.post("/v1/customers", test_clock=self.clock_id)["id"]
        claim_customer("user_1", customer, database=self.database, clock=self.clock)
        self.sandbox.pay(str(self.served("standard").session_id))
        self.told()

    def post(self, path: str, **params: Any) -> dict[str, Any]:
        """At Stripe."""
        answer = self.sandbox.request("POST", path, params)
        assert answer.status == 200, answer.body
        return answer.body

    def move_past_the_period(self) -> None:
        """The clock goes a day beyond the subscription's period, in one advance."""
        end = self.objects("subscription")[0]["items"]["data"][0]["current_period_end"]
        self.post(f"{CLOCKS}/{self.clock_id}/advance", frozen_time=end + DAY)
        self.sandbox.tick()
        self.told()

    def told(self) -> None:
        """What is new at Stripe arrives and is worked."""
        self.queue.sent.clear()
        self.deliver(self.made())
        self.work_events()

    def done(self, kind: Kind, **request: Any) -> None:
        """The buyer asks, and it succeeds."""
        made = self.change(kind, **request)
        self.work()
        view = read_operation(made.operation_id, user_id="user_1", database=self.database, clock=self.clock)
        assert view.status is OperationStatus.SUCCEEDED, view
        self.told()

    def read(self) -> tuple[bool, str, str | None]:
        """Access, its reason, and the plan to come."""
        found = read_subscription("user_1", database=self.database, catalog=self.catalog, clock=self.clock)
        access = found["access"]
        return access["granted"], access["reason"], found["subscription"]["scheduled_plan"]


@pytest.mark.parametrize("years", [-6, 2])
def test_a_buyer_on_a_test_clock_buys_cancels_switches_and_leaves(database: Any, years: int) -> None:
    """SUB-119: on a clock in the past and on one ahead."""
    shop = Clocked(database)
    shop.put_on_a_clock(int(shop.clock.now().timestamp()) + years * 365 * DAY)
    assert shop.read() == (True, "active", None)
    shop.done(Kind.CANCEL)
    assert shop.read() == (True, "active", None)  # until the period's end, which is to come on the clock
    shop.done(Kind.REACTIVATE)
    shop.done(Kind.SWITCH, plan="commit")
    assert shop.read() == (True, "active", "commit")
    shop.move_past_the_period()
    assert shop.objects("subscription")[0]["items"]["data"][0]["price"]["id"] == shop.catalog.plans["commit"].price
    shop.done(Kind.CANCEL)
    assert shop.read() == (True, "active", None)
    shop.move_past_the_period()
    assert shop.read() == (False, "canceled", None)
    assert shop.projection() == shop.truth()


def test_a_buyer_with_two_on_a_clock_ahead_leaves_both(database: Any) -> None:
    """SUB-84, SUB-119: the second is of a day that is to come."""
    shop = Clocked(database)
    shop.put_on_a_clock(int(shop.clock.now().timestamp()) + 40 * DAY)
    [first] = shop.objects("subscription")
    shop.sandbox.give_card(first["customer"])
    price = shop.catalog.plans["commit"].price
    shop.post("/v1/subscriptions", customer=first["customer"], items=[{"price": price}])
    shop.told()
    shop.done(Kind.CANCEL)
    assert all(one["cancel_at"] for one in shop.objects("subscription"))
