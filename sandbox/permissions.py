"""Restricted keys: a key that was registered with permissions has these and no others; writing includes reading.

A permission is named as in Stripe's own refusal: `rak_customer_write` without the `rak_`. Where Stripe's form has one
line for two resources the finer one counts here. Keys that nobody registered may do everything.
"""

from collections.abc import Iterable

from .errors import ApiError
from .store import Store

_KIND = "restricted_key"
# The beginning of an address, whole segments of it: the resource.
_RESOURCES = {
    "/v1/account": "accounts_kyc_basic",
    "/v1/accounts": "accounts_kyc_basic",
    "/v1/balance": "balance",
    "/v1/billing_portal": "customer_portal",
    "/v1/charges": "charge",
    "/v1/checkout/sessions": "checkout_session",
    "/v1/coupons": "coupon",
    "/v1/customers": "customer",
    "/v1/disputes": "dispute",
    "/v1/events": "event",
    "/v1/invoice_payments": "invoice",
    "/v1/invoiceitems": "invoice",
    "/v1/invoices": "invoice",
    "/v1/payment_intents": "payment_intent",
    "/v1/payment_links": "payment_links",
    "/v1/payment_methods": "payment_method",
    "/v1/prices": "plan",
    "/v1/products": "product",
    "/v1/promotion_codes": "promotion_code",
    "/v1/refunds": "refund",
    "/v1/setup_intents": "setup_intent",
    "/v1/subscription_items": "subscription",
    "/v1/subscription_schedules": "subscription_schedule",
    "/v1/subscriptions": "subscription",
    "/v1/tax_rates": "tax_rate",
    "/v1/test_helpers/test_clocks": "billing_clock",
    "/v1/webhook_endpoints": "webhook",
    "/v2/core/events": "event",
}
NAMES = frozenset(f"{resource}_{level}" for resource in _RESOURCES.values() for level in ("read", "write"))


def restrict(store: Store, api_key: str, permissions: Iterable[str]) -> None:
    """From now on this key may do these and nothing else."""
    allowed = sorted(set(permissions))
    if not api_key.startswith("rk_"):
        raise ApiError(400, "Only a restricted key (rk_test_… or rk_live_…) has permissions.", param="key")
    if unknown := sorted(set(allowed) - NAMES):
        raise ApiError(400, f"There is no permission {unknown[0]}; there are {', '.join(sorted(NAMES))}.")
    store.put(_KIND, {"id": api_key, "permissions": allowed})


def needed(method: str, path: str) -> str | None:
    """The permission that a request takes; None for an address that does not exist."""
    segments = path.split("/")
    for length in (4, 3):
        if (resource := _RESOURCES.get("/".join(segments[:length]))) is not None:
            return f"{resource}_{'read' if method == 'GET' else 'write'}"
    return None


def check(store: Store, api_key: str | None, method: str, path: str, account: str) -> None:
    """403, as Stripe says it, unless the key may do this."""
    key = store.get(_KIND, api_key or "")
    name = needed(method, path)
    if key is None or name is None or {name, name.replace("_read", "_write")} & set(key["permissions"]):
        return
    raise ApiError(
        403,
        f"The provided key '{key['id'][:8]}{'*' * 20}{key['id'][-6:]}' does not have the required permissions for this"
        f" endpoint on account '{account}'. Having the 'rak_{name}' permission would allow this request to continue.",
    )
