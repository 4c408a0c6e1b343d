"""Checkouts over HTTP, from the request to the payment page and what becomes of it."""

import pytest

from billing.models import checkouts
from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, Web, token


def test_buyer_gets_the_payment_page_when_it_is_ready_in_time(served: Web, world: World) -> None:
    """API-20, API-23"""
    asked = {"quantity": 1, "client_reference_id": "order 7", "metadata": {"cart": "12"}}
    answer = served.checkout(bearer=API_KEYS[0], user_id="user_1", **asked)

    assert answer.status_code == 201
    body = answer.get_json()
    (session,) = world.sessions("open")
    assert (body["status"], body["url"], body["session_id"]) == ("open", session["url"], session["id"])
    assert session["metadata"]["cart"] == "12"
    assert (body["client_reference_id"], body["metadata"]) == ("order 7", {"cart": "12"})
    assert answer.headers["Location"] == f"/v1/checkouts/{body['id']}"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("claim", "known"),
    [
        ("buyer@example.com", "buyer@example.com"),
        ("no address", None),
        ("a@b", None),
        (7, None),
        ("x" * 300 + "@a.co", None),
    ],
)
def test_email_of_the_token_reaches_stripe_where_it_is_one(
    served: Web, world: World, claim: object, known: object
) -> None:
    assert served.checkout(bearer=token(email=claim)).status_code == 201

    assert world.objects("customer")[0]["email"] == known


@pytest.mark.parametrize(
    ("verified", "known"),
    [
        (True, "buyer@example.com"),
        ("true", "buyer@example.com"),
        (None, "buyer@example.com"),  # left out: the issuer says nothing
        (False, None),
        ("false", None),
        ("", None),
        (0, None),
        (1, None),
        ([], None),
    ],
)
def test_email_that_nobody_verified_is_not_sent(served: Web, world: World, verified: object, known: object) -> None:
    """API-79"""
    claims = {"email": "buyer@example.com", "email_verified": verified}
    assert served.checkout(bearer=token(**claims)).status_code == 201
    assert world.objects("customer")[0]["email"] == known


def test_buyer_follows_the_location_of_a_202_to_the_payment_page(web: Web, world: World) -> None:
    """API-20"""
    first = web.checkout()
    assert first.status_code == 202
    assert int(first.headers["Retry-After"]) > 0
    assert web.get(first.headers["Location"]).get_json()["status"] == "pending"

    world.work()

    answer = web.get(first.headers["Location"])
    assert answer.get_json()["url"] == world.sessions("open")[0]["url"]
    assert answer.headers["Cache-Control"] == "no-store"


def test_buyer_with_a_subscription_is_refused_with_its_status(served: Web, world: World) -> None:
    """API-25"""
    session_id = served.checkout().get_json()["session_id"]
    world.sandbox.pay(session_id)

    answer = served.checkout()

    body = answer.get_json(force=True)
    assert (answer.status_code, body["code"], body["subscription_status"]) == (409, "already_subscribed", "active")
    assert body["retryable"] is False
    shown = served.get(f"/v1/checkouts/{body['checkout_id']}")
    assert (shown.status_code, shown.get_json()["status"]) == (200, "refused")
    assert shown.get_json()["error"]["code"] == "already_subscribed"


def test_older_checkout_of_another_plan_is_told_that_it_was_superseded(web: Web, world: World) -> None:
    """API-25"""
    web.checkout(headers={"Idempotency-Key": "old"})
    web.checkout(plan="commit")
    world.work()

    answer = web.checkout(headers={"Idempotency-Key": "old"})

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (409, "superseded")


def test_price_that_stripe_does_not_know_is_our_fault_and_not_worth_a_retry(served: Web, world: World) -> None:
    """API-25"""
    missing = {"status": 400, "code": "resource_missing", "message": "No such price"}
    world.sandbox.faults.add("status", method="POST", path="/v1/checkout/sessions", **missing)

    answer = served.checkout()

    body = answer.get_json(force=True)
    assert (answer.status_code, body["code"], body["retryable"]) == (502, "stripe_refused", False)


def test_server_asks_for_the_user_it_names(served: Web) -> None:
    """API-13"""
    answer = served.checkout(bearer=API_KEYS[1], user_id="user_9")

    assert answer.status_code == 201
    location = answer.headers["Location"]
    assert served.get(f"{location}?user_id=user_9", bearer=API_KEYS[0]).status_code == 200
    assert served.get(location, user="user_9").status_code == 200
    assert served.get(f"{location}?user_id=user_1", bearer=API_KEYS[0]).status_code == 404


@pytest.mark.parametrize("named", ["", "?user_id=", "?user_id=a&user_id=b", "?user_id=%00"])
def test_server_that_names_no_user_is_refused(web: Web, named: str) -> None:
    """API-13"""
    location = web.checkout().headers["Location"]

    assert web.get(f"{location}{named}", bearer=API_KEYS[0]).status_code == 422
    assert web.get(f"/v1/subscription{named}", bearer=API_KEYS[0]).status_code == 422
    assert web.checkout(bearer=API_KEYS[0]).status_code == 422


def test_another_users_checkout_reads_as_if_it_did_not_exist(web: Web) -> None:
    """API-14; faults row 65"""
    location = web.checkout().headers["Location"]

    foreign = web.get(location, user="user_2").get_json(force=True)
    missing = web.get("/v1/checkouts/chk_0", user="user_2").get_json(force=True)

    assert foreign["status"] == 404
    assert foreign | {"request_id": ""} == missing | {"request_id": ""}


def test_buyer_cannot_name_a_user(web: Web, world: World) -> None:
    """API-14"""
    assert web.checkout(user_id="user_2").status_code == 422
    assert web.get("/v1/subscription?user_id=user_2").status_code == 422
    assert world.rows(checkouts) == []


@pytest.mark.parametrize(
    "id_",
    [
        "chk_",
        "chk_A",
        "cs_test_1",
        "chk_1%0a",
        "chk_1%00",
        "chk_..",
        "chk_1?expand[]=x".replace("?", "%3f"),
        "chk_" + "a" * 61,
    ],
)
def test_id_that_is_not_written_like_one_is_refused_before_it_is_looked_up(web: Web, id_: str) -> None:
    """API-26; faults row 66"""
    answer = web.get(f"/v1/checkouts/{id_}")

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (400, "invalid_id")


@pytest.mark.parametrize(
    "customer_id",
    ["cus_", "cus_x/..", "cus_x?expand[]=sources", "cus_x%2e%2e", "cus_x\n", "cus_x#", "CUS_x", "cus_" + "x" * 251],
)
def test_customer_id_that_is_not_written_like_one_never_reaches_stripe(
    web: Web, world: World, customer_id: str
) -> None:
    """API-26; faults row 66: the only id of Stripe's that the API takes."""
    answer = web.call("PUT", "/v1/customers/user_1", bearer=API_KEYS[0], json={"customer_id": customer_id})

    assert answer.status_code == 422
    assert answer.get_json(force=True)["errors"][0]["pointer"] == "/customer_id"
    assert world.requests() == []


@pytest.mark.parametrize(
    "path", ["/v1/checkouts/../../healthz", "/v1/checkouts/a/b", "/v1/checkouts/", "/v1/checkouts//x"]
)
def test_path_with_other_slashes_leads_nowhere(web: Web, path: str) -> None:
    """API-26"""
    answer = web.get(path)

    assert answer.status_code == 404


def test_buyer_is_told_when_stripe_does_not_answer_and_the_checkout_is_kept(make_app: MakeApp, world: World) -> None:
    """API-27"""
    web = Web(make_app(checkout_wait_seconds=0.05))
    world.sandbox.faults.add("status", path="/v1/customers", status=503, times=None)
    location = web.checkout(headers={"Prefer": "wait=0"}).headers["Location"]
    world.work_lane()

    answer = web.checkout()

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "stripe_unavailable")
    world.sandbox.faults.clear()
    world.clock.advance(minutes=2)
    world.work()
    assert web.get(answer.headers["Location"]).get_json()["url"] == web.get(location).get_json()["url"] is not None


def test_checkouts_are_counted_by_their_outcome(served: Web) -> None:
    served.checkout()
    figures = served.get("/metrics", user=None).get_data(as_text=True)

    assert 'onelane_checkouts_total{outcome="open"}' in figures
    assert 'onelane_checkout_seconds_bucket{le="0.1"}' in figures
