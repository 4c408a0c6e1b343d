"""Access of a customer on one of Stripe's test clocks: by its time, and by ours where it cannot be read."""

from datetime import timedelta

import pytest

from billing.customers.customers import claim_customer
from billing.models import outbox
from billing.subscriptions.fetch import fetch
from tests.support.builders import NOON, build_subscription, stamp
from tests.support.fakes import FakeStripe


def put_on_a_clock(shop, customer, *, at):
    """The customer lives on a test clock from here on; its id."""
    made = shop.sandbox.request("POST", "/v1/test_helpers/test_clocks", {"frozen_time": at, "customer": customer})
    assert made.status == 200, made.body
    return made.body["id"]


def set_clock(shop, clock, *, at):
    """The clock is there, and what happened on the way is worked."""
    path = f"/v1/test_helpers/test_clocks/{clock}"
    assert shop.sandbox.request("POST", f"{path}/advance", {"frozen_time": at}).status == 200
    assert shop.sandbox.request("GET", path).body["status"] == "ready"
    shop.told()


def test_on_a_test_clock_grace_runs_out_by_its_time(shop):
    """SUB-119: which has gone on by months, while ours stands still. Another customer's has not."""
    shop.rule(past_due_grace_days=5)
    customer = shop.subscribe("user_1")
    shop.subscribe("user_2")
    renewal = shop.objects("subscription")[1]["items"]["data"][0]["current_period_end"]
    clock = put_on_a_clock(shop, customer, at=renewal - 60)
    [card] = [one for one in shop.objects("payment_method") if one["customer"] == customer]
    shop.sandbox.card_answers(card["id"], "do_not_honor")
    set_clock(shop, clock, at=renewal + 4 * 86400)
    assert shop.reason() == (True, "past_due_grace")
    set_clock(shop, clock, at=renewal + 10 * 86400)
    assert shop.reason() == (False, "past_due")
    assert shop.reason("user_2") == (True, "active")
    told = [row.payload["subscription"]["status"] for row in shop.rows(outbox) if row.customer_id == customer]
    assert told == ["past_due"]  # that time passes is no change


def test_on_a_test_clock_in_the_past_a_planned_end_is_still_to_come(shop):
    """SUB-119: the customer was taken over, as one that was made for the clock."""
    then = 1_577_836_800  # 2020
    clock = shop.sandbox.request("POST", "/v1/test_helpers/test_clocks", {"frozen_time": then}).body["id"]
    asked = {"test_clock": clock, "payment_method": "pm_card_visa"}
    customer = shop.sandbox.request("POST", "/v1/customers", asked).body["id"]
    shop.sandbox.give_card(customer)
    claim_customer("user_1", customer, database=shop.database, clock=shop.clock)
    items = [{"price": shop.catalog.plans["standard"].price}]
    made = {"customer": customer, "items": items, "cancel_at_period_end": True}
    assert shop.sandbox.request("POST", "/v1/subscriptions", made).status == 200
    shop.told()
    assert shop.reason() == (True, "active")
    set_clock(shop, clock, at=then + 40 * 86400)
    assert shop.reason() == (False, "canceled")


@pytest.mark.parametrize(("answer", "granted"), [("unreadable", False), ("gone", False), ("ready", True)])
def test_a_clock_that_cannot_be_read_leaves_the_real_time(shop, answer, granted):
    """SUB-119: by a restricted key, or of a clock that is gone; nothing fails."""
    customer = shop.subscribe("user_1")
    subscription = shop.objects("subscription")[0]
    shop.clock.advance(days=5)
    clock = put_on_a_clock(shop, customer, at=int(shop.clock.now().timestamp()) + 60)
    ends = subscription["items"]["data"][0]["current_period_end"]
    shop.sandbox.change_subscription(subscription["id"], {"cancel_at_period_end": True})
    shop.clock.advance(seconds=ends - shop.clock.now().timestamp() + 60)  # ours is past the end, the clock's is not
    if answer != "ready":
        status = {"unreadable": 403, "gone": 404}[answer]
        code = {"code": "resource_missing"} if answer == "gone" else {}
        shop.sandbox.faults.add("status", path=f"/v1/test_helpers/test_clocks/{clock}", status=status, **code)
    shop.sync(customer)
    assert shop.reason()[0] is granted


def test_a_clock_on_its_way_counts_as_where_it_goes():
    """SUB-119: once it is there, no event of the customer need follow."""
    stripe = FakeStripe()
    details = {"advancing": {"target_frozen_time": stamp(NOON) + 60}}
    clock = {"object": "test_helpers.test_clock", "frozen_time": stamp(NOON), "status_details": details}
    stripe.put({"id": "cus_1", "object": "customer"}, {"id": "clock_1", **clock})
    stripe.put({**build_subscription(), "customer": "cus_1", "test_clock": "clock_1"})
    found = fetch("cus_1", stripe=stripe, with_customer=False, sessions=(), expected=())
    assert found.clocks == {"clock_1": NOON + timedelta(seconds=60)}
