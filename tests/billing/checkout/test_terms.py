"""What a session is made with, seen at Stripe: trials, quantities, metered prices, whose it is, when it is reused."""

import uuid
from contextlib import nullcontext
from typing import Any

import pytest

from billing.catalog import Catalog, MetadataRules, Portal
from billing.checkout.requests import CheckoutRequest, check_request
from billing.checkout.rules import fingerprint, orphaned_sessions
from billing.errors import InvalidRequest
from billing.models import CheckoutStatus, customers
from billing.operations.decide import Kind
from billing.rules.product_tag import tag
from tests.support.checkout_world import ORIGIN, World

CARDLESS = {"trial_days": 14, "missing_payment_method": "cancel", "coupon": None}


def sell(world: World, **fields: Any) -> None:
    """From now on the standard plan is sold with these fields."""
    plans = {**world.catalog.plans, "standard": world.catalog.plans["standard"].model_copy(update=fields)}
    world.catalog = world.catalog.model_copy(update={"plans": plans})


def paid(world: World, **body: Any) -> dict[str, Any]:
    """A checkout that is paid at once: its subscription."""
    view = world.served(**body)
    assert view.status is CheckoutStatus.OPEN, view.error
    world.sandbox.pay(str(view.session_id))
    return world.objects("subscription")[0]


def ended(world: World) -> None:
    """The newest subscription is ended by support."""
    id_ = world.objects("subscription")[0]["id"]
    assert world.sandbox.request("DELETE", f"/v1/subscriptions/{id_}").status == 200


# --- trials


@pytest.mark.parametrize("word", ["cancel", "pause"])
def test_trial_without_a_card_ends_as_the_plan_says(world: World, word: str) -> None:
    """CHK-34"""
    sell(world, **CARDLESS | {"missing_payment_method": word})
    subscription = paid(world)
    assert subscription["status"] == "trialing"
    assert subscription["trial_settings"] == {"end_behavior": {"missing_payment_method": word}}
    assert world.sessions()[0]["payment_method_collection"] == "if_required"
    assert subscription["trial_end"] - subscription["trial_start"] == 14 * 86400


def test_trial_with_a_card_asks_for_one(world: World) -> None:
    """CHK-34"""
    sell(world, trial_days=14, coupon=None)
    assert paid(world)["status"] == "trialing"
    assert world.sessions()[0]["payment_method_collection"] == "always"


def test_trial_is_given_once(world: World) -> None:
    """CHK-33: also where it was canceled on its first day, and never paid for."""
    sell(world, **CARDLESS)
    assert paid(world)["status"] == "trialing"
    ended(world)
    assert paid(world)["status"] == "active"
    assert world.sessions()[0]["payment_method_collection"] == "always"


def test_subscriber_of_old_gets_no_trial(world: World) -> None:
    """CHK-33: whoever paid before."""
    assert paid(world)["status"] == "active"
    ended(world)
    sell(world, **CARDLESS)
    assert paid(world)["status"] == "active"


def test_page_that_was_left_costs_no_trial(world: World) -> None:
    """CHK-33"""
    sell(world, **CARDLESS)
    assert world.served().status is CheckoutStatus.OPEN
    world.clock.advance(days=2)
    assert paid(world)["status"] == "trialing"


def test_trial_of_a_deleted_customer_is_remembered(world: World) -> None:
    """CHK-33, CHK-17: Stripe lists nothing of theirs any more; the user is the same."""
    sell(world, **CARDLESS)
    paid(world)
    world.work_lane()
    [row] = world.rows(customers)
    assert world.sandbox.request("DELETE", f"/v1/customers/{row.customer_id}").status == 200
    assert paid(world)["status"] == "active"
    assert world.rows(customers)[0].customer_id != row.customer_id
    assert paid(world, user="user_2")["status"] == "trialing"


def test_subscriber_of_old_gets_no_trial_as_another_customer(world: World) -> None:
    """CHK-33, CHK-17: they paid without a trial, and Stripe has deleted the customer since."""
    paid(world)
    world.work_lane()
    [row] = world.rows(customers)
    assert world.sandbox.request("DELETE", f"/v1/customers/{row.customer_id}").status == 200
    sell(world, **CARDLESS)
    world.clock.advance(days=2)  # by then no session of theirs is looked at one by one
    assert paid(world)["status"] == "active"


def test_first_time_coupon_of_a_deleted_customer_is_remembered(world: World) -> None:
    """CHK-11, CHK-17: else each deletion brings it again. A trial that cost nothing does not use it up."""
    for user, trial, again in (("user_1", {}, False), ("user_2", CARDLESS, True)):
        sell(world, **trial)
        paid(world, user=user)
        world.work_lane(int(user[-1]))
        row = next(row for row in world.rows(customers) if row.user_id == user)
        assert world.sandbox.request("DELETE", f"/v1/customers/{row.customer_id}").status == 200
        sell(world, coupon="kiloclaw_first_month")
        world.clock.advance(days=2)
        world.served(user=user)
        session = world.sessions("open")[0]
        assert session["customer"] != row.customer_id
        assert bool(session["discounts"]) is again, user
        world.sandbox.request("POST", f"/v1/checkout/sessions/{session['id']}/expire")


# --- quantity and metered prices


def test_no_quantity_means_the_least_that_is_sold(world: World) -> None:
    """CHK-35; the same as saying it: one session."""
    sell(world, min_quantity=3, max_quantity=10)
    first = world.served()
    assert world.served(quantity=3).session_id == first.session_id
    assert world.served(quantity=4).session_id != first.session_id
    world.sandbox.pay(str(world.served().session_id))
    assert world.objects("subscription")[0]["items"]["data"][0]["quantity"] == 3


def test_metered_plan_is_sold_by_use(world: World) -> None:
    """CHK-35"""
    recurring = {"interval": "month", "usage_type": "metered", "meter": "mtr_1"}
    price = {"id": "price_by_use", "object": "price", "currency": "usd", "unit_amount": 5, "recurring": recurring}
    world.sandbox.seed([{**price, "product": "prod_use"}, {"id": "prod_use", "object": "product", "name": "Use"}])
    sell(world, price="price_by_use", metered=True, coupon=None)
    with pytest.raises(InvalidRequest):
        world.ask(quantity=1)
    assert paid(world)["items"]["data"][0].get("quantity") is None


def test_metered_price_that_the_catalog_does_not_call_so_is_the_operators_matter(world: World) -> None:
    """CHK-30"""
    recurring = {"interval": "month", "usage_type": "metered", "meter": "mtr_1"}
    price = {"id": "price_by_use", "object": "price", "currency": "usd", "unit_amount": 5, "recurring": recurring}
    world.sandbox.seed([{**price, "product": "prod_use"}, {"id": "prod_use", "object": "product", "name": "Use"}])
    sell(world, price="price_by_use", coupon=None)
    assert world.served().error == {
        "code": "stripe_refused",
        "detail": "Stripe refused what was asked of it. The operator can see why.",
    }


# --- whose it is


def test_session_and_subscription_carry_the_user(world: World) -> None:
    """CHK-37, CHK-3"""
    subscription = paid(world, metadata={"campaign": "x"}, client_reference_id="order_7")
    [session] = world.sessions()
    for carrier in (session, subscription):
        assert carrier["metadata"]["onelane_user"] == "user_1"
        assert carrier["metadata"]["campaign"] == "x"
    assert session["client_reference_id"] == "order_7"


def of_buyers(*names: str) -> Catalog:
    """A catalog that lets buyers set these names."""
    base = World.__dataclass_fields__["catalog"].default
    return base.model_copy(update={"metadata": MetadataRules(from_buyers=names)})


@pytest.mark.parametrize(
    ("allowed", "by_server", "sent", "wrong"),
    [
        ((), False, {}, []),
        ((), False, {"campaign": "x"}, ["/metadata/campaign"]),
        (("campaign",), False, {"campaign": "x"}, []),
        (("campaign",), False, {"campaign": "x", "user_id": "y"}, ["/metadata/user_id"]),
        (("campaign",), False, {"Campaign": "x"}, ["/metadata/Campaign"]),
        (("a/b",), False, {"a/b": "x", "a~c": "y"}, ["/metadata/a~0c"]),
        ((), True, {"user_id": "y", "workspace": "z"}, []),
        (("campaign",), True, {"type": "y", "onelane_user": "z"}, ["/metadata/type", "/metadata/onelane_user"]),
        (("campaign",), False, {"onelane_user": "z"}, ["/metadata/onelane_user"]),
    ],
)
def test_buyers_set_the_names_that_the_catalog_lists(
    allowed: tuple[str, ...], by_server: bool, sent: dict[str, str], wrong: list[str]
) -> None:
    """CHK-36, CHK-12"""
    request = CheckoutRequest("standard", f"{ORIGIN}/ok", f"{ORIGIN}/no", metadata=sent)
    found: list[str] = []
    try:
        check_request(request, catalog=of_buyers(*allowed), redirect_origins=[ORIGIN], by_server=by_server)
    except InvalidRequest as refused:
        found = [error["pointer"] for error in refused.errors]
    assert found == wrong


@pytest.mark.parametrize(
    ("metadata", "fits"),
    [
        ({"k" * 40: "v"}, True),
        ({"k" * 41: "v"}, False),
        ({"k": "v" * 500}, True),
        ({"k": "v" * 501}, False),
        ({f"k{number}": "v" for number in range(20)}, True),
        ({f"k{number}": "v" for number in range(21)}, False),
        ({"": "v"}, False),
        ({"k": ""}, False),
        ({"k[": "v"}, False),
        ({"k]": "v"}, False),
    ],
    ids=lambda value: str(value)[:20],
)
def test_names_and_values_are_as_long_as_stripe_takes_them(metadata: dict[str, str], fits: bool) -> None:
    """CHK-12"""
    request = CheckoutRequest("standard", f"{ORIGIN}/ok", f"{ORIGIN}/no", metadata=metadata)
    with nullcontext() if fits else pytest.raises(InvalidRequest):
        check_request(request, catalog=of_buyers(), redirect_origins=[ORIGIN], by_server=True)


# --- reuse


@pytest.mark.parametrize(
    "changed",
    [
        {"trial_days": 7},
        {"coupon": None},
        {"coupon_for": "everyone"},
        {"trial_end": 4_000_000_000},
        {"coupon": None, "allow_promotion_codes": True},
    ],
)
def test_session_with_other_terms_is_not_given_out_again(world: World, changed: dict[str, Any]) -> None:
    """LAN-30: after a change of the catalog the buyer gets what is sold now, and the old page is closed."""
    first = world.served()
    assert world.served().session_id == first.session_id
    sell(world, **changed)
    second = world.served()
    assert second.session_id != first.session_id
    assert [one["id"] for one in world.sessions("open")] == [second.session_id]


def test_extra_parameters_are_terms_and_words_for_people_are_none(world: World) -> None:
    """LAN-30"""
    first = world.served()
    sell(world, name="Standard plan", description="New words.", amount=901)
    assert world.served().session_id == first.session_id
    world.catalog = world.catalog.model_copy(update={"session": {"locale": "de"}})
    assert world.served().session_id != first.session_id


# --- the portal


def test_portal_is_opened_by_the_configuration_that_the_catalog_names(world: World) -> None:
    """SUB-90"""
    world.served()
    features = {"features": {"invoice_history": {"enabled": "true"}}}
    made = world.sandbox.request("POST", "/v1/billing_portal/configurations", features).body["id"]
    for named in (None, made):
        world.catalog = world.catalog.model_copy(update={"portal": Portal(configuration=named)})
        world.change(Kind.PORTAL, return_url=f"{ORIGIN}/account")
        world.work()
    newest, oldest = (one["configuration"] for one in world.objects("portal_session"))
    assert newest == made != oldest


def test_order_of_the_buyers_words_makes_no_other_request() -> None:
    """LAN-4: JSON has none."""
    assert fingerprint({"metadata": {"a": "1", "b": "2"}}) == fingerprint({"metadata": {"b": "2", "a": "1"}})


def test_open_session_is_a_lanes_own_by_its_nonce_or_its_id() -> None:
    """LAN-5: any other open one is an orphan."""
    own, another = str(uuid.uuid4()), str(uuid.uuid4())
    nonces = {"cs_own": own, "cs_named": None, "cs_orphan": another, "cs_old": None}
    sessions = [
        {"id": id_, "status": "open", "metadata": tag("kiloclaw", nonce=nonce, user_id="u") if nonce else {}}
        for id_, nonce in nonces.items()
    ]
    sessions.append({"id": "cs_done", "status": "complete", "metadata": {}})
    orphaned = orphaned_sessions(sessions, owned=(own, "cs_named"))
    assert [session["id"] for session in orphaned] == ["cs_orphan", "cs_old"]
    assert len(orphaned_sessions(sessions, owned=(None, None))) == 4
