"""What Stripe refuses: its buyers learn what they can do, its operator reads Stripe's own words (CHK-30, CHK-31)."""

import re
from typing import Any

import pytest
from structlog.testing import capture_logs

from billing.customers.customers import claim_customer
from billing.errors import OPERATORS
from billing.models import CheckoutStatus, OperationStatus, checkouts
from billing.operations.decide import Kind
from billing.operations.requests import read_operation
from billing.operators.lookup import show_checkout
from tests.support.checkout_world import ORIGIN, World


def other_program(world: World, user: str = "user_1", *, currency: str = "eur") -> str:
    """A customer whom another program bills in a currency of its own, taken over for a user."""
    customer = str(world.sandbox.request("POST", "/v1/customers").body["id"])
    credit = {"amount": "-100", "currency": currency}
    assert world.sandbox.request("POST", f"/v1/customers/{customer}/balance_transactions", credit).status == 200
    claim_customer(user, customer, database=world.database, clock=world.clock)
    return customer


def test_customer_of_another_currency_is_told_so_and_the_lane_is_free(world: World) -> None:
    """CHK-31, LAN-15"""
    customer = other_program(world)
    view = world.served()
    assert (view.status, view.url) == (CheckoutStatus.REFUSED, None)
    assert view.error == {
        "code": "currency_mismatch",
        "detail": "Stripe bills this customer in EUR, and this plan is sold in USD. Choose a plan in EUR, or ask for"
        " help.",
        "customer_currency": "eur",
        "plan_currency": "usd",
    }
    assert world.sessions() == []
    euros = {"price": "price_in_euros", "currency": "eur"}
    world.sandbox.seed([{"id": "price_in_euros", "object": "price", "currency": "eur", "unit_amount": 900,
                         "recurring": {"interval": "month"}, "product": "prod_euros"},
                        {"id": "prod_euros", "object": "product", "name": "Euros"}])  # fmt: skip
    plans = {**world.catalog.plans, "commit": world.catalog.plans["commit"].model_copy(update=euros)}
    world.catalog = world.catalog.model_copy(update={"plans": plans})
    assert world.served("commit").status is CheckoutStatus.OPEN
    assert world.sessions()[0]["customer"] == customer


def test_refusal_for_another_reason_is_no_matter_of_currency(world: World) -> None:
    """CHK-31: the same currency, or none yet."""
    other_program(world, currency="usd")
    refusal = {"status": 400, "message": "No such thing"}
    world.sandbox.faults.add("status", method="POST", path="/v1/checkout/sessions", times=2, **refusal)
    for user in ("user_1", "user_2"):
        view = world.served(user=user)
        assert (view.error or {})["code"] == "stripe_refused", user


def test_price_of_several_currencies_is_sold_in_each(world: World) -> None:
    """CHK-31: refused for something else, its buyer reads nothing of currencies."""
    euros = {
        "custom_unit_amount": None,
        "tax_behavior": "unspecified",
        "unit_amount": 800,
        "unit_amount_decimal": "800",
    }
    price = {"object": "price", "id": "price_both", "currency": "usd", "unit_amount": 900, "active": False}
    price |= {"recurring": {"interval": "month"}, "currency_options": {"eur": euros}}
    world.sandbox.seed([price])
    both = world.catalog.plans["standard"].model_copy(update={"price": "price_both"})
    world.catalog = world.catalog.model_copy(update={"plans": {**world.catalog.plans, "both": both}})
    for user, currency, code in (("user_1", "eur", "stripe_refused"), ("user_2", "gbp", "currency_mismatch")):
        other_program(world, user, currency=currency)
        assert (world.served("both", user=user).error or {})["code"] == code


def test_currencies_that_cannot_be_read_leave_the_attempt_to_the_next_pass(world: World) -> None:
    """CHK-31, LAN-7: the same key gives the same refusal again."""
    other_program(world)
    world.sandbox.faults.add("drop_before", path="/v1/prices/", times=2)
    view = world.served()
    assert (view.error or {})["code"] == "currency_mismatch"
    posts = world.requests("POST", "/v1/checkout/sessions")
    assert len({one["idempotency_key"] for one in posts}) == 1 < len(posts)


SENTENCES = [
    "Quantity should not be specified where usage_type is `metered`.",
    "No such coupon: 'FIRST'\nline two",
    "The email ann@example.com is not valid; sk_test_51abcdefgh is not yours.",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_stripes_words_reach_the_operator_and_no_buyer(world: World, sentence: str) -> None:
    """CHK-30, OPS-3: in the log and in the row, with the request's id, and without an email or a key."""
    fault: dict[str, Any] = {"status": 400, "message": sentence, "code": None}
    world.sandbox.faults.add("status", method="POST", path="/v1/checkout/sessions", **fault)
    with capture_logs() as lines:
        view = world.served()
    shown = str(view.error)
    [row] = world.rows(checkouts)
    theirs = row.error[OPERATORS]
    assert (view.error or {})["code"] == "stripe_refused"
    assert not re.search(r"req_|None|metered|coupon|Stripe refused POST", shown)
    assert re.search(r"request req_\w+\)", theirs)
    assert sentence.split("\n")[0].split(" ")[0] in theirs
    assert "None" not in theirs
    assert "@" not in theirs
    assert "51abcdefgh" not in theirs
    assert show_checkout(view.id, database=world.database, clock=world.clock)["error"][OPERATORS] == theirs
    [line] = [line for line in lines if line["event"] == "attempt.refused"]
    assert (line["code"], line["checkouts"], line["reason"]) == ("stripe_refused", 1, theirs)


def test_key_that_may_not_is_the_operators_matter_too(world: World) -> None:
    """CHK-30, OPS-61"""
    world.sandbox.faults.add("status", method="POST", path="/v1/checkout/sessions", status=403, message="No permission")
    view = world.served()
    assert (view.error or {})["code"] == "misconfigured"
    assert "STRIPE_API_KEY" not in str(view.error)
    assert "POST /v1/checkout/sessions" in world.rows(checkouts)[0].error[OPERATORS]


def test_portal_that_nobody_saved_is_the_operators_matter(world: World) -> None:
    """CHK-30: a refused operation, too."""
    world.served()
    world.sandbox.settings(portal="never_saved")
    made = world.change(Kind.PORTAL, return_url=f"{ORIGIN}/account")
    with capture_logs() as lines:
        world.work()
    view = read_operation(made.operation_id, user_id="user_1", database=world.database, clock=world.clock)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "stripe_refused")
    assert "configuration" not in str(view.error)
    assert any("saving your customer portal settings" in line.get("reason", "") for line in lines)
