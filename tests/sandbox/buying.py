"""What the tests of money do: requests that succeed, subscriptions, their latest invoices."""

from typing import Any

from sandbox import Sandbox

MONTH = {"interval": "month"}
DAY = 86400


def price(sandbox: Sandbox, amount: int, **more: Any) -> str:
    asked = {"currency": "usd", "unit_amount": amount, "recurring": MONTH, "product_data": {"name": "x"}, **more}
    return str(done(sandbox, "/v1/prices", **asked)["id"])


def done(sandbox: Sandbox, path: str, **params: Any) -> dict[str, Any]:
    answer = sandbox.request("POST", path, params)
    assert answer.status == 200, answer.body
    return answer.body


def get(sandbox: Sandbox, path: str) -> dict[str, Any]:
    answer = sandbox.request("GET", path)
    assert answer.status == 200, answer.body
    return answer.body


def subscribe(sandbox: Sandbox, *prices: str, **more: Any) -> dict[str, Any]:
    items = [{"price": one} for one in prices or ("price_month",)]
    return done(sandbox, "/v1/subscriptions", **{"customer": "cus_ann", "items": items, **more})


def latest(sandbox: Sandbox, subscription: dict[str, Any]) -> dict[str, Any]:
    now = get(sandbox, f"/v1/subscriptions/{subscription['id']}")
    return get(sandbox, f"/v1/invoices/{now['latest_invoice']}")


def types(sandbox: Sandbox) -> list[str]:
    return [event["type"] for event in sandbox.store.newest_first("event")]
