"""Restricted keys, as the official SDK meets them."""

import pytest
import requests
import stripe

from sandbox import Sandbox
from sandbox.permissions import NAMES, needed
from sandbox.routes import ROUTES

KEY = "rk_test_0123456789abcdef"


def _restrict(url: str, *permissions: str, key: str = KEY) -> requests.Response:
    body = {"key": key, "permissions": list(permissions)}
    return requests.post(f"{url}/_sandbox/restricted_keys", json=body, timeout=5)


def _client(url: str, key: str = KEY) -> stripe.StripeClient:
    return stripe.StripeClient(key, base_addresses={"api": url})


def test_a_restricted_key_may_do_what_it_was_given_and_no_more(url: str) -> None:
    """SBX-59: to write includes to read."""
    assert _restrict(url, "customer_write", "plan_read").status_code == 201
    v1 = _client(url).v1
    made = v1.customers.create({"email": "eve@example.com"})
    assert v1.customers.retrieve(made.id).email == "eve@example.com"
    assert v1.prices.retrieve("price_month").id == "price_month"
    for refused, name in (
        (lambda: v1.prices.create({"product": "prod_claw", "currency": "eur", "unit_amount": 1}), "plan_write"),
        (lambda: v1.subscriptions.list(), "subscription_read"),
        (lambda: v1.checkout.sessions.expire("cs_test_none"), "checkout_session_write"),
    ):
        with pytest.raises(stripe.PermissionError) as caught:
            refused()
        refusal = caught.value
        assert (refusal.http_status, refusal.error.type, refusal.error.code) == (403, "invalid_request_error", None)
        assert f"Having the 'rak_{name}' permission would allow this request to continue." in str(refusal)
        assert KEY not in str(refusal)


def test_every_address_takes_a_permission() -> None:
    """SBX-59"""
    assert [path for method, path, _ in ROUTES if needed(method, path) not in NAMES] == []
    assert needed("GET", "/v1/nothing") is None


def test_a_key_that_nobody_restricted_may_do_everything(url: str) -> None:
    """SBX-2"""
    _restrict(url)
    assert _client(url, "rk_test_other").v1.customers.retrieve("cus_ann").id == "cus_ann"


def test_a_refusal_leaves_the_idempotency_key_unused(sandbox: Sandbox) -> None:
    """SBX-22, SBX-59: the permission is given, the same request sent again."""

    def ask() -> int:
        made = {"email": "eve@example.com"}
        return sandbox.request("POST", "/v1/customers", made, idempotency_key="k", api_key=KEY).status

    sandbox.restrict(KEY, ["customer_read"])
    assert ask() == 403
    sandbox.restrict(KEY, ["customer_write"])
    assert ask() == 200


def test_nonsense_is_no_restriction(url: str) -> None:
    """SBX-51"""
    for answer in (
        _restrict(url, "customer_write", key="sk_test_1"),
        _restrict(url, "everything"),
        requests.post(f"{url}/_sandbox/restricted_keys", json={"key": KEY}, timeout=5),
    ):
        assert answer.status_code == 400
        assert answer.json()["error"]["message"]
