"""What is refused, and that a refused request changes nothing."""

from typing import Any

import pytest

from sandbox import Sandbox
from sandbox.http import create_app

PRICE = {"currency": "usd", "unit_amount": 1000, "recurring": {"interval": "month"}, "product_data": {"name": "x"}}


def money(sandbox: Sandbox) -> dict[str, int]:
    return {kind: count for kind, count in sandbox.store.counts().items() if kind not in ("idempotency_key", "setting")}


def test_a_refused_expand_executes_nothing_and_leaves_the_key_unused(sandbox: Sandbox) -> None:
    """SBX-67, SBX-22"""
    asked = {"email": "twice@example.com", "expand": ["shoes"]}
    before = money(sandbox)
    for _ in range(2):
        assert sandbox.request("POST", "/v1/customers", asked, idempotency_key="k").status == 400
    assert money(sandbox) == before
    made = sandbox.request("POST", "/v1/customers", {"email": "once@example.com"}, idempotency_key="k")
    assert made.status == 200
    assert not made.replayed


@pytest.mark.parametrize(
    ("path", "params"),
    [
        ("/v1/prices", {**PRICE, "expand": ["nothing"]}),
        ("/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": "price_month"}], "expand": ["latest_shoe"]}),
        ("/v1/subscriptions", {"customer": "cus_bob", "items": [{"price": "price_month"}]}),
    ],
)
def test_a_refused_request_leaves_nothing_half_done(sandbox: Sandbox, path: str, params: Any) -> None:
    """SBX-67"""
    before, ids = money(sandbox), sandbox.store.new_id("x")
    assert sandbox.request("POST", path, params).status == 400
    assert money(sandbox) == before
    assert sandbox.store.new_id("x") != ids


def test_a_mistake_of_the_sandboxs_own_is_undone(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """SBX-67"""
    before = money(sandbox)
    monkeypatch.setattr("sandbox.answers._shown", lambda answer: 1 / 0)
    assert sandbox.request("POST", "/v1/customers", {}).status == 500
    assert money(sandbox) == before


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"percent_off": 150}, "percent_off"),
        ({"percent_off": 0}, "percent_off"),
        ({"percent_off": -5}, "percent_off"),
        ({"percent_off": 5, "redeem_by": 1}, "redeem_by"),
        ({"percent_off": 5, "duration": "once", "duration_in_months": 3}, "duration_in_months"),
    ],
)
def test_a_coupon_that_cannot_be_is_refused(sandbox: Sandbox, params: dict[str, Any], param: str) -> None:
    """SBX-71"""
    answer = sandbox.request("POST", "/v1/coupons", params)
    assert (answer.status, answer.body["error"]["param"]) == (400, param)


def test_a_coupon_in_another_currency_is_refused(sandbox: Sandbox, params: Any) -> None:
    """SBX-71"""
    coupon = sandbox.request("POST", "/v1/coupons", {"amount_off": 300, "currency": "eur"}).body["id"]
    for path, asked in (
        ("/v1/checkout/sessions", params(discounts=[{"coupon": coupon}])),
        (
            "/v1/subscriptions",
            {"customer": "cus_ann", "items": [{"price": "price_month"}], "discounts": [{"coupon": coupon}]},
        ),
    ):
        answer = sandbox.request("POST", path, asked)
        assert (answer.status, answer.body["error"]["param"]) == (400, "discounts[0][coupon]")


@pytest.mark.parametrize("moment", ["1", "1700000000"])
def test_a_moment_in_the_past_is_refused(sandbox: Sandbox, moment: str) -> None:
    """SBX-3: of a new subscription and of one that is changed"""
    asked = {"customer": "cus_ann", "items": [{"price": "price_month"}]}
    made = sandbox.request("POST", "/v1/subscriptions", {**asked, "trial_period_days": 7}).body["id"]
    for path, change in (
        ("/v1/subscriptions", {**asked, "trial_end": moment}),
        ("/v1/subscriptions", {**asked, "cancel_at": moment}),
        (f"/v1/subscriptions/{made}", {"trial_end": moment}),
        (f"/v1/subscriptions/{made}", {"pause_collection": {"behavior": "void", "resumes_at": moment}}),
        (f"/v1/subscriptions/{made}", {"proration_date": moment, "items": [{"price": "price_half_year"}]}),
    ):
        answer = sandbox.request("POST", path, change)
        assert answer.status == 400, change


@pytest.mark.parametrize("bound", ["gt", "gte", "lt", "lte"])
def test_an_empty_bound_bounds_nothing(sandbox: Sandbox, bound: str) -> None:
    """SBX-4, SBX-58"""
    answer = sandbox.request("GET", "/v1/customers", {"created": {bound: ""}})
    assert (answer.status, len(answer.body["data"])) == (200, 2)


def test_marketing_features_are_a_list(sandbox: Sandbox) -> None:
    """SBX-1"""
    client = create_app(sandbox).test_client()
    form = "name=x&marketing_features[0][name]=fast&marketing_features[1][name]=quiet"
    headers = {"Authorization": "Bearer sk_test_1"}
    made = client.post(
        "/v1/products", data=form, headers=headers, content_type="application/x-www-form-urlencoded"
    ).get_json()
    assert made["marketing_features"] == [{"name": "fast"}, {"name": "quiet"}]


def test_another_version_of_the_api_is_refused(sandbox: Sandbox) -> None:
    """SBX-70"""
    client = create_app(sandbox).test_client()
    for version, status in (("2026-10-28.endive", 200), ("2024-06-20", 501), ("yesterday", 400)):
        headers = {"Authorization": "Bearer sk_test_1", "Stripe-Version": version}
        answer = client.get("/v1/customers", headers=headers)
        assert (answer.status_code, answer.headers["Stripe-Version"]) == (status, "2026-10-28.endive")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/payouts", 501),
        ("POST", "/v1/subscriptions/sub_1/migrate", 501),
        ("GET", "/v1/quotes", 501),
        ("GET", "/v1/subscriptions/search", 501),
        ("POST", "/v1/invoices/create_preview", 501),
        ("POST", "/v1/payouts/po_1/nonsense", 404),
        ("DELETE", "/v1/refunds/re_1", 404),
        ("GET", "/v1/no_such_thing", 404),
    ],
)
def test_an_address_of_stripes_that_is_not_served_is_no_404(
    sandbox: Sandbox, method: str, path: str, status: int
) -> None:
    """SBX-69"""
    answer = sandbox.request(method, path)
    assert answer.status == status
    assert answer.body["error"].get("code") == ("sandbox_unsupported" if status == 501 else None)


@pytest.mark.parametrize(
    ("path", "params", "status"),
    [
        ("/v1/checkout/sessions", {"mode": "setup"}, 501),
        ("/v1/checkout/sessions", {"mode": "gift"}, 400),
        ("/v1/checkout/sessions", {"line_items": {"0": {"price_data": {"currency": "usd"}}}}, 501),
        ("/v1/checkout/sessions", {"line_items": {"0": {"price_date": "1"}}}, 400),
        ("/v1/subscription_schedules", {"end_behavior": "renew"}, 501),
        ("/v1/customers", {"validate": "true", "invalidate": "1"}, 400),
    ],
)
def test_what_stripe_has_is_told_from_what_nobody_has(
    sandbox: Sandbox, path: str, params: dict[str, Any], status: int
) -> None:
    """SBX-68"""
    assert sandbox.request("POST", path, params).status == status


def test_a_customer_is_bound_to_one_currency(sandbox: Sandbox, params: Any) -> None:
    """SBX-82"""
    euros = sandbox.request("POST", "/v1/prices", {**PRICE, "currency": "eur"}).body["id"]
    sandbox.request("POST", "/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": "price_month"}]})
    assert sandbox.request("GET", "/v1/customers/cus_ann").body["currency"] == "usd"
    for path, asked in (
        ("/v1/checkout/sessions", params(line_items=[{"price": euros, "quantity": 1}])),
        ("/v1/subscriptions", {"customer": "cus_ann", "items": [{"price": euros}]}),
        ("/v1/customers/cus_ann/balance_transactions", {"amount": -5, "currency": "eur"}),
    ):
        answer = sandbox.request("POST", path, asked)
        assert answer.status == 400
        assert "combine currencies" in answer.body["error"]["message"]


def test_checkout_asks_an_existing_customer_for_what_tax_needs(sandbox: Sandbox, params: Any) -> None:
    """SBX-86"""
    taxed = params(automatic_tax={"enabled": True})
    answer = sandbox.request("POST", "/v1/checkout/sessions", taxed)
    assert (answer.status, answer.body["error"]["code"]) == (400, "customer_tax_location_invalid")
    allowed = sandbox.request("POST", "/v1/checkout/sessions", {**taxed, "customer_update": {"address": "auto"}})
    assert allowed.status == 200
    sandbox.pay(allowed.body["id"])
    assert sandbox.request("GET", "/v1/customers/cus_ann").body["address"]["country"] == "US"
    assert sandbox.request("POST", "/v1/checkout/sessions", taxed).status == 200
    ids = params(tax_id_collection={"enabled": True})
    assert sandbox.request("POST", "/v1/checkout/sessions", ids).status == 400
    assert sandbox.request("POST", "/v1/checkout/sessions", {**ids, "customer_update": {"name": "auto"}}).status == 200
