"""The API as the official SDK sees it: objects, errors, lists, expansion, keys."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
import requests
import stripe

from sandbox import Sandbox


def test_the_sdk_creates_reads_changes_and_deletes_a_customer(client: stripe.StripeClient) -> None:
    # SBX-1
    made = client.v1.customers.create({"email": "eve@example.com", "metadata": {"user_id": "u1", "plan": "a"}})
    changed = client.v1.customers.update(made.id, {"name": "Eve", "metadata": {"plan": "", "city": "Graz"}})
    assert changed.metadata.to_dict() == {"user_id": "u1", "city": "Graz"}
    assert client.v1.customers.retrieve(made.id).name == "Eve"
    assert [one.id for one in client.v1.customers.list({"email": "eve@example.com"}).data] == [made.id]
    client.v1.customers.delete(made.id)
    assert client.v1.customers.retrieve(made.id).deleted is True
    assert client.v1.customers.list({"email": "eve@example.com"}).data == []


def test_the_sdk_builds_a_catalog(client: stripe.StripeClient) -> None:
    # SBX-1
    product = client.v1.products.create({"name": "Lamp"})
    price = client.v1.prices.create(
        {
            "product": product.id,
            "currency": "eur",
            "unit_amount": 700,
            "recurring": {"interval": "year", "interval_count": 1},
        }
    )
    coupon = client.v1.coupons.create(
        {"id": "TEN", "amount_off": 10, "currency": "eur", "duration": "repeating", "duration_in_months": 3}
    )
    assert (price.type, price.recurring.interval, price.unit_amount) == ("recurring", "year", 700)
    assert client.v1.prices.retrieve(price.id, {"expand": ["product"]}).product.name == "Lamp"
    assert client.v1.coupons.retrieve("TEN").duration_in_months == coupon.duration_in_months == 3
    assert [one.id for one in client.v1.prices.list({"product": product.id}).data] == [price.id]


@pytest.mark.parametrize("key", ["", "pk_test_1", "sk_1", "nonsense"])
def test_a_missing_or_wrong_key_is_refused_without_being_repeated(url: str, key: str) -> None:
    # SBX-2
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    answer = requests.get(f"{url}/v1/customers", headers=headers, timeout=5)
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "invalid_request_error"
    assert key == "" or key not in answer.text.replace(key[:3], "", 1)


@pytest.mark.parametrize(("key", "live"), [("sk_test_1", False), ("rk_test_1", False), ("sk_live_1", True)])
def test_the_kind_of_key_decides_the_mode(url: str, key: str, live: bool) -> None:
    # SBX-2
    basic = base64.b64encode(f"{key}:".encode()).decode()
    answer = requests.get(f"{url}/v1/balance", headers={"Authorization": f"Basic {basic}"}, timeout=5)
    assert answer.json()["livemode"] is live


def test_a_live_key_sees_nothing_of_the_test_mode(sandbox: Sandbox) -> None:
    # SBX-2
    assert sandbox.request("GET", "/v1/customers/cus_ann").status == 200
    assert sandbox.request("GET", "/v1/customers/cus_ann", api_key="sk_live_1").status == 404
    assert sandbox.request("GET", "/v1/customers", api_key="sk_live_1").body["data"] == []


def test_every_answer_says_request_id_date_and_version(url: str) -> None:
    # SBX-1
    answer = requests.get(f"{url}/v1/account", headers={"Authorization": "Bearer sk_test_1"}, timeout=5)
    assert answer.json()["id"].startswith("acct_")
    assert answer.headers["Request-Id"].startswith("req_")
    assert answer.headers["Date"].endswith("GMT")
    assert answer.headers["Stripe-Version"]


@pytest.mark.parametrize(
    ("method", "path", "params", "status", "code", "param"),
    [
        ("GET", "/v1/customers/cus_nobody", {}, 404, "resource_missing", "id"),
        ("POST", "/v1/customers", {"colour": "red"}, 400, "parameter_unknown", "colour"),
        ("POST", "/v1/customers", {"address": {"planet": "x"}}, 400, "parameter_unknown", "address[planet]"),
        ("GET", "/v1/customers", {"limit": "many"}, 400, "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers", {"limit": "101"}, 400, "parameter_invalid_integer", "limit"),
        ("GET", "/v1/customers", {"starting_after": "cus_no"}, 400, "resource_missing", "starting_after"),
        ("POST", "/v1/checkout/sessions", {}, 400, "parameter_missing", "mode"),
        ("POST", "/v1/prices", {"currency": "usd"}, 400, "parameter_missing", "unit_amount"),
        ("POST", "/v1/subscriptions", {"customer": ""}, 400, "parameter_invalid_empty", "customer"),
        ("GET", "/v1/subscriptions", {"customer": "cus_no"}, 400, "resource_missing", "customer"),
        ("POST", "/v1/customers", {"validate": "true"}, 501, "sandbox_unsupported", "validate"),
        ("GET", "/v1/no_such_thing", {}, 404, None, None),
        ("GET", "/v1/customers/cus_ann", {"expand": ["shoes"]}, 400, None, None),
        ("POST", "/v1/customers", {"metadata": {"k" * 41: "v"}}, 400, None, f"metadata[{'k' * 41}]"),
    ],
)
def test_refusals_have_stripes_shape(
    sandbox: Sandbox, method: str, path: str, params: dict[str, Any], status: int, code: str | None, param: str | None
) -> None:
    # SBX-3
    answer = sandbox.request(method, path, params)
    error = answer.body["error"]
    assert (answer.status, error.get("code"), error.get("param")) == (status, code, param)
    assert error["type"] == "invalid_request_error"
    assert error["message"]


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"line_items": [{"price": "price_no", "quantity": 1}]}, "line_items[0][price]"),
        ({"customer": "cus_no"}, "customer"),
        ({"discounts": [{"coupon": "no"}]}, "discounts[0][coupon]"),
    ],
)
def test_a_referenced_object_that_is_missing_is_a_400_that_names_the_parameter(
    sandbox: Sandbox, params: Callable[..., Any], change: dict[str, Any], param: str
) -> None:
    # SBX-3
    answer = sandbox.request("POST", "/v1/checkout/sessions", params(**change))
    assert (answer.status, answer.body["error"]["code"], answer.body["error"]["param"]) == (
        400,
        "resource_missing",
        param,
    )


def test_errors_arrive_as_the_sdks_own(client: stripe.StripeClient) -> None:
    # SBX-3
    with pytest.raises(stripe.InvalidRequestError) as caught:
        client.v1.subscriptions.retrieve("sub_nothing")
    assert (caught.value.code, caught.value.http_status) == ("resource_missing", 404)
    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient("sk_nothing", base_addresses={"api": client._requestor.base_addresses["api"] or ""}
                            ).v1.balance.retrieve()  # fmt: skip


def test_lists_are_newest_first_and_page_both_ways(sandbox: Sandbox) -> None:
    # SBX-4
    ids = [sandbox.request("POST", "/v1/customers", {"name": f"n{n}"}).body["id"] for n in range(25)]
    newest = list(reversed(ids))

    def page(**params: Any) -> dict[str, Any]:
        return sandbox.request("GET", "/v1/customers", params).body

    first = page()
    assert [one["id"] for one in first["data"]] == newest[:10]
    assert first["has_more"]
    second = page(starting_after=newest[9], limit="15")
    assert [one["id"] for one in second["data"]] == newest[10:25]
    back = page(ending_before=newest[12], limit=5)
    assert [one["id"] for one in back["data"]] == newest[7:12]
    assert back["has_more"]
    last = page(starting_after=ids[0])
    assert [one["id"] for one in last["data"]] == ["cus_bob", "cus_ann"]
    assert not last["has_more"]


def test_the_sdk_walks_through_all_pages(client: stripe.StripeClient, open_session: Callable[..., Any]) -> None:
    # SBX-4
    ids = {open_session()["id"] for _ in range(23)}
    open_session(customer="cus_bob")
    pages = client.v1.checkout.sessions.list({"customer": "cus_ann", "limit": 10})
    assert {one.id for one in pages.auto_paging_iter()} == ids


def test_lists_filter_by_time_of_creation() -> None:
    # SBX-4
    now = [1_800_000_000.0]
    sandbox = Sandbox(clock=lambda: now[0])
    ids = []
    for _ in range(5):
        ids.append(sandbox.request("POST", "/v1/customers", {}).body["id"])
        now[0] += 10
    found = sandbox.request("GET", "/v1/customers", {"created": {"gte": "1800000010", "lt": "1800000030"}}).body
    assert [one["id"] for one in found["data"]] == [ids[2], ids[1]]
    found = sandbox.request("GET", "/v1/customers", {"created": "1800000040"}).body
    assert [one["id"] for one in found["data"]] == [ids[4]]


def test_expansion_reaches_through_lists_and_four_levels(
    client: stripe.StripeClient, sandbox: Sandbox, open_session: Callable[..., Any]
) -> None:
    # SBX-5
    session = open_session()
    sandbox.pay(session["id"])
    found = client.v1.checkout.sessions.list(
        {"expand": ["data.customer", "data.subscription.latest_invoice.payments", "data.line_items"]}
    ).data[0]
    assert found.customer.email == "ann@example.com"
    payment = found.subscription.latest_invoice.payments.data[0]
    assert found.line_items.data[0].price.id == "price_month"
    intent = client.v1.payment_intents.retrieve(payment.payment.payment_intent, {"expand": ["latest_charge"]})
    assert intent.latest_charge.paid
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.subscriptions.list({"expand": ["data.items.data.price.product"]})


def test_a_refund_is_bounded_by_what_was_paid(sandbox: Sandbox, open_session: Callable[..., Any]) -> None:
    # SBX-6
    sandbox.pay(open_session()["id"])
    charge = sandbox.request("GET", "/v1/charges", {"customer": "cus_ann"}).body["data"][0]
    part = sandbox.request("POST", "/v1/refunds", {"payment_intent": charge["payment_intent"], "amount": "400"})
    assert (part.body["charge"], part.body["status"]) == (charge["id"], "succeeded")
    assert sandbox.request("POST", "/v1/refunds", {"charge": charge["id"], "amount": 501}).status == 400
    assert sandbox.request("POST", "/v1/refunds", {"charge": charge["id"]}).body["amount"] == 500
    over = sandbox.request("POST", "/v1/refunds", {"charge": charge["id"]})
    assert over.body["error"]["code"] == "charge_already_refunded"
    types = [one["type"] for one in sandbox.store.newest_first("event")]
    assert types[:4] == ["charge.refunded", "refund.created"] * 2
