"""What [session] of the catalog may add to each checkout session. Pure.

Every session of ours is on Stripe's page, sells a subscription, and names an existing customer. What cannot go with
these three would be refused for every buyer, so it stops the start (CHK-32).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

ANY: Mapping[str, Any] = {}
_SWITCH = {"enabled": (True, False)}
_UPDATE = ("auto", "never")

# Stripe's parameters that may stand in [session]: their fields, their values, or ANY where Stripe has the last word.
ALLOWED: Mapping[str, Any] = {
    "adaptive_pricing": _SWITCH,
    "allowed_payment_method_types": ANY,
    "automatic_tax": {**_SWITCH, "liability": ANY},
    "billing_address_collection": ("auto", "required"),
    "branding_settings": ANY,
    "consent_collection": {
        "payment_method_reuse_agreement": ANY,
        "promotions": ("auto", "none"),
        "terms_of_service": ("none", "required"),
    },
    "currency": ANY,
    "custom_fields": ANY,
    "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance"), ANY),
    "customer_update": {"address": _UPDATE, "name": _UPDATE, "shipping": _UPDATE},
    "excluded_payment_method_types": ANY,
    "integration_identifier": ANY,
    "locale": ANY,
    "managed_payments": _SWITCH,
    "name_collection": ANY,
    "optional_items": ANY,
    "origin_context": ("mobile_app", "web"),
    "payment_method_collection": ("always", "if_required"),
    "payment_method_configuration": ANY,
    "payment_method_data": ANY,
    "payment_method_options": ANY,
    "phone_number_collection": _SWITCH,
    "saved_payment_method_options": ANY,
    "shipping_address_collection": ANY,
    "submit_type": ("auto", "book", "donate", "pay", "subscribe"),
    "tax_id_collection": {**_SWITCH, "required": ("if_supported", "never")},
    "wallet_options": ANY,
}
# Parameters that we set on every session: [session] of the catalog must not override the protocol.
OWN = frozenset(
    {
        "mode",
        "customer",
        "customer_email",
        "line_items",
        "metadata",
        "subscription_data",
        "expires_at",
        "success_url",
        "cancel_url",
        "return_url",
        "client_reference_id",
        "discounts",
        "allow_promotion_codes",
        "ui_mode",
        "customer_account",
        "after_expiration",  # a recovery copies the session: no attempt owns the copy, which is payable for 30 days
    }
)
NEVER: Mapping[str, str] = {
    "customer_creation": "every session names a customer",
    "expand": "it adds nothing to a session",
    "invoice_creation": "a subscription makes its own invoices",
    "payment_intent_data": "Stripe takes it with mode = payment only",
    "payment_method_types": "in the version of Stripe's API that onelane uses it is allowed_payment_method_types",
    "permissions": "Stripe takes it with an embedded page only",
    "redirect_on_completion": "Stripe takes it with an embedded page only",
    "setup_intent_data": "Stripe takes it with mode = setup only",
    "shipping_options": "Stripe takes it with mode = payment only",
}


def wrong_extras(session: Mapping[str, Any]) -> str | None:
    """What is wrong with [session] and how to mend it, in one sentence; None when nothing is."""
    return next(_wrong(session), None)


def _wrong(session: Mapping[str, Any]) -> Iterator[str]:
    if own := OWN & set(session):
        yield f"[session] may not set {', '.join(sorted(own))}: onelane sets it"
    for name, value in session.items():
        if name in NEVER:
            yield f"[session] may not set {name}: {NEVER[name]}"
        elif name not in ALLOWED:
            yield f"[session] sets {name}, which Stripe does not have"
        else:
            yield from _unfit(name, value, ALLOWED[name])
    yield from _lacking(session)


def _unfit(name: str, value: Any, allowed: Any) -> Iterator[str]:
    """Fields and values that Stripe does not have."""
    if isinstance(allowed, tuple):
        if not any(value is one or (isinstance(value, str) and value == one) for one in allowed):
            yield f"[session] sets {name} to {value!r}, which must be {_words(allowed)}"
    elif allowed:
        if not isinstance(value, Mapping):
            yield f"[session] sets {name} to {value!r}, which must be a table with {', '.join(allowed)}"
            return
        for field, inner in value.items():
            if field not in allowed:
                yield f"[session] sets {name}.{field}, which Stripe does not have; it has {', '.join(allowed)}"
            else:
                yield from _unfit(f"{name}.{field}", inner, allowed[field])


def _words(values: Sequence[object]) -> str:
    return " or ".join(str(value).lower() if isinstance(value, bool) else f'"{value}"' for value in values)


def _lacking(session: Mapping[str, Any]) -> Iterator[str]:
    """What Stripe takes with something else only, as the customer exists already."""
    update = session.get("customer_update") or {}

    def is_on(name: str) -> bool:
        return bool((session.get(name) or {}).get("enabled"))

    if is_on("automatic_tax") and "auto" not in (update.get("address"), update.get("shipping")):
        yield 'automatic_tax needs customer_update = { address = "auto" } in [session]: without it Stripe refuses it'
    if is_on("tax_id_collection") and update.get("name") != "auto":
        yield 'tax_id_collection needs customer_update = { name = "auto" } in [session]: without it Stripe refuses it'
    if update.get("shipping") == "auto" and not session.get("shipping_address_collection"):
        yield "customer_update.shipping needs shipping_address_collection in [session]: without it no address is asked"
