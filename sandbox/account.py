"""The account behind the key, and its balance: they tell a client its account and its mode."""

from .calls import Call, Route
from .errors import Json, missing_object


def account(call: Call, params: Json) -> Json:
    return {
        "id": call.account,
        "object": "account",
        "business_profile": {
            "mcc": None,
            "name": "Sandbox",
            "product_description": None,
            "support_email": None,
            "url": None,
        },
        "business_type": "company",
        "capabilities": {"card_payments": "active", "transfers": "active"},
        "charges_enabled": True,
        "country": "US",
        "created": 1735689600,
        "default_currency": "usd",
        "details_submitted": True,
        "email": "sandbox@example.com",
        "metadata": {},
        "payouts_enabled": True,
        "settings": {"dashboard": {"display_name": "Sandbox", "timezone": "Etc/UTC"}},
        "type": "standard",
    }


def account_by_id(call: Call, params: Json) -> Json:
    if params["id"] != call.account:
        raise missing_object("account", params["id"])
    return account(call, params)


def balance(call: Call, params: Json) -> Json:
    total = sum(
        one["amount_captured"] - one["amount_refunded"]
        for one in call.store.all("charge")
        if one["livemode"] == call.livemode
    )
    nothing = {"amount": 0, "currency": "usd", "source_types": {"card": 0}}
    return {
        "object": "balance",
        "available": [nothing],
        "connect_reserved": [{"amount": 0, "currency": "usd"}],
        "livemode": call.livemode,
        "pending": [{"amount": total, "currency": "usd", "source_types": {"card": total}}],
        "refund_and_dispute_prefunding": {"available": [nothing], "pending": [nothing]},
    }


ROUTES: list[Route] = [
    ("GET", "/v1/account", {}, account),
    ("GET", "/v1/accounts/{id}", {}, account_by_id),
    ("GET", "/v1/balance", {}, balance),
]
