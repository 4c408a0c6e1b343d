"""What a user has, what there is to buy, and existing customers."""

import pytest

from billing.catalog import AccessRules
from billing.customers.store import open_lane
from billing.models import projections, subscriptions
from billing.operators import erasure_store
from tests.app.conftest import MakeApp
from tests.support.builders import NOON
from tests.support.checkout_world import ORIGIN, World
from tests.support.web import API_KEYS, Web

CUSTOMERS = "/v1/customers/"


def test_user_who_never_bought_has_no_access(web: Web) -> None:
    body = web.get("/v1/subscription").get_json()

    none = {"granted": False, "reason": "no_subscription", "until": None}
    assert body == {"access": none, "subscription": None, "product_trial": None}


def test_first_look_begins_the_trial_that_the_catalog_gives(make_app: MakeApp, world: World) -> None:
    """SUB-63, OPS-152: it is the web that writes it."""
    catalog = world.catalog.model_copy(update={"access": AccessRules(product_trial_days=7)})
    web = Web(make_app(services={"catalog": catalog}))
    first, second = (web.get("/v1/subscription").get_json() for _ in range(2))
    assert first["access"]["reason"] == "product_trial"
    assert second["product_trial"] == first["product_trial"]


def test_subscriber_sees_access_and_subscription_and_others_do_not(web: Web, world: World) -> None:
    """API-14"""
    web.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json={"customer_id": "cus_1"})
    with world.database.write() as connection:
        connection.execute(projections.insert().values(customer_id="cus_1"))
        connection.execute(
            subscriptions.insert().values(
                subscription_id="sub_1",
                customer_id="cus_1",
                product="kiloclaw",
                plan="commit",
                status="active",
                created_at=NOON,
            )
        )

    answer = web.get("/v1/subscription")

    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.get_json()["access"]["granted"] is True
    assert answer.get_json()["subscription"]["plan"] == "commit"
    assert web.get("/v1/subscription", user="user_2").get_json()["subscription"] is None


def test_plans_are_public_and_say_nothing_of_stripe(web: Web, world: World) -> None:
    """API-54"""
    answer = web.get("/v1/plans", user=None)

    assert [plan["plan"] for plan in answer.get_json()["plans"]] == list(world.catalog.plans)
    text = answer.get_data(as_text=True)
    for plan in world.catalog.plans.values():
        assert plan.price not in text
        assert plan.coupon is None or plan.coupon not in text


def test_server_names_an_existing_customer_once_and_for_all(web: Web) -> None:
    def put(user: str, customer: str) -> int:
        sent = {"customer_id": customer}
        return web.call("PUT", CUSTOMERS + user, bearer=API_KEYS[0], json=sent).status_code

    assert put("user_1", "cus_1") == 200
    assert put("user_1", "cus_1") == 200
    assert put("user_1", "cus_2") == 409
    assert put("user_2", "cus_1") == 409
    assert put("user_2", "cus_2") == 200


def test_buyer_who_pays_already_has_access_when_their_customer_is_named(served: Web, world: World) -> None:
    """SUB-70: when the answer is there, Stripe was asked."""
    world.sandbox.seed([{"object": "customer", "id": "cus_1", "card": "pm_card_visa"}])
    made = {"customer": "cus_1", "items": [{"price": world.catalog.plans["standard"].price}]}
    assert world.sandbox.request("POST", "/v1/subscriptions", made).status == 200

    answer = served.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json={"customer_id": "cus_1"})

    assert (answer.status_code, answer.get_json()) == (200, {"user_id": "user_1", "customer_id": "cus_1"})
    assert served.get("/v1/subscription").get_json()["access"]["granted"] is True


def test_customer_is_named_also_while_stripe_does_not_answer(served: Web, world: World) -> None:
    """SUB-70: the row is what counts; the fetch comes later."""
    world.sandbox.faults.add("status", path="/v1", status=503, times=10)
    sent = {"customer_id": "cus_1"}
    answer = served.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json=sent, headers={"Prefer": "wait=0"})
    assert (answer.status_code, answer.headers["Preference-Applied"]) == (200, "wait=0")


@pytest.mark.parametrize("user", ["auth0|5f7c", "google/1/2", "a//b", "ünï", "a b", "x" * 200])
def test_user_id_may_have_any_printable_characters(web: Web, user: str) -> None:
    answer = web.call("PUT", CUSTOMERS + user, bearer=API_KEYS[0], json={"customer_id": "cus_1"})

    assert answer.get_json() == {"user_id": user, "customer_id": "cus_1"}


@pytest.mark.parametrize("user", ["x" * 201, "a%00", "%ff", "%e2%80%8b", "a%1bb"])
def test_user_id_that_cannot_be_one_is_refused(web: Web, user: str) -> None:
    """API-26"""
    answer = web.call("PUT", CUSTOMERS + user, bearer=API_KEYS[0], json={"customer_id": "cus_1"})

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (400, "invalid_id")


@pytest.mark.parametrize(
    "customer",
    [
        "",
        "sub_1",
        "cus_",
        "cus_x?expand[]=a",
        "cus_x/..",
        "../",
        "%2e%2e",
        "cus_\n",
        "cus_1\0",
        "cus_é",
        "cus_" + "x" * 251,
        7,
        None,
        [],
    ],
)
def test_customer_id_that_cannot_be_one_is_refused(web: Web, customer: object) -> None:
    """API-3, API-6"""
    answer = web.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json={"customer_id": customer})

    assert answer.status_code == 422
    assert answer.get_json(force=True)["errors"][0]["pointer"] == "/customer_id"


def test_buyer_may_not_name_customers(web: Web) -> None:
    """API-16"""
    for user in ("user_1", "user_2"):
        answer = web.call("PUT", CUSTOMERS + user, user="user_1", json={"customer_id": "cus_1"})
        assert (answer.status_code, answer.get_json(force=True)["code"]) == (403, "forbidden")


def test_somebody_who_was_erased_is_told_so_everywhere(web: Web, world: World) -> None:
    """SUB-55: 410, which no client asks again."""
    assert web.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json={"customer_id": "cus_1"}).status_code == 200
    with world.database.write() as connection:
        lane_id = open_lane(connection, user_id="user_1", product=world.catalog.product)
        erasure_store.mark(connection, "user_1", lane_id, reason="a letter", now=NOON)
    addresses = {"success_url": f"{ORIGIN}/ok", "cancel_url": f"{ORIGIN}/no"}
    answers = [
        web.call("POST", "/v1/checkouts", json={"plan": "standard", **addresses}),
        web.call("POST", "/v1/subscription/cancel"),
        web.call("PUT", CUSTOMERS + "user_1", bearer=API_KEYS[0], json={"customer_id": "cus_1"}),
    ]
    assert [(one.status_code, one.get_json(force=True)["code"]) for one in answers] == [(410, "user_erased")] * 3
    assert web.get("/v1/subscription").get_json()["access"]["granted"] is False
