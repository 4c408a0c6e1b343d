"""A checkout session as it begins.

What it will make (its lines, its subscription_data) is kept in fields that begin with an underscore.
"""

from . import forms
from .calls import Call
from .checkout_parameters import SHOWN
from .errors import Json

TEXTS = ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")


def new_session(
    call: Call,
    params: Json,
    customer: Json | None,
    lines: list[Json],
    due: list[Json],
    *,
    coupon: Json | None,
    expires_at: int,
) -> Json:
    """Open, not stored yet. `due` is what of each line is paid today (see `checkout_lines`)."""
    id = call.store.new_id("cs_live_a1" if call.livemode else "cs_test_a1", 56)
    taxed = bool((params.get("automatic_tax") or {}).get("enabled"))
    return {
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": None,
        "amount_subtotal": sum(each["subtotal"] for each in due),
        "amount_total": sum(each["total"] for each in due),
        "automatic_tax": {
            "enabled": taxed,
            "liability": {"type": "self"} if taxed else None,
            "provider": "stripe" if taxed else None,
            "status": "requires_location_inputs" if taxed else None,
        },
        "billing_address_collection": None,
        "cancel_url": None,
        "client_reference_id": None,
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": call.wall,
        "currency": lines[0]["currency"],
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {**dict.fromkeys(TEXTS), **(params.get("custom_text") or {})},
        "customer": customer["id"] if customer else None,
        "customer_account": None,
        "customer_creation": None if customer else "always" if params["mode"] == "subscription" else "if_required",
        "customer_details": details_of(customer) if customer else _email_details(params.get("customer_email")),
        "customer_email": None,
        "discounts": [{"coupon": coupon["id"], "promotion_code": None}] if coupon else [],
        "expires_at": expires_at,
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": None,
        "livemode": call.livemode,
        "locale": None,
        "managed_payments": {"enabled": False},
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "mode": params["mode"],
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": params.get("payment_method_collection")
        or ("always" if params["mode"] == "subscription" else "if_required"),
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "payment_status": "unpaid",
        "permissions": None,
        "phone_number_collection": {"enabled": bool((params.get("phone_number_collection") or {}).get("enabled"))},
        "recovered_from": None,
        "saved_payment_method_options": {
            "allow_redisplay_filters": ["always"],
            "payment_method_remove": "disabled",
            "payment_method_save": None,
        },
        "setup_intent": None,
        "shipping_address_collection": None,
        "shipping_cost": None,
        "shipping_options": [],
        "status": "open",
        "submit_type": None,
        "subscription": None,
        "success_url": None,
        "tax_id_collection": {"enabled": False, "required": "never", **(params.get("tax_id_collection") or {})},
        "total_details": {
            "amount_discount": sum(each["off"] for each in due),
            "amount_shipping": 0,
            "amount_tax": sum(each["tax"] for each in due),
        },
        "ui_mode": "hosted_page",
        "url": f"{call.base_url}/pay/{id}",
        "wallet_options": None,
        **{name: params[name] for name in SHOWN if name in params},
        "_customer_update": params.get("customer_update") or {},
        "_due": float(expires_at),
        "_intent": None,
        "_intent_data": params.get("payment_intent_data") or {},
        "_lines": lines,
        "_subscription": None,
        "_subscription_data": params.get("subscription_data") or {},
    }


def details_of(customer: Json) -> Json:
    return {
        "address": customer["address"],
        "business_name": None,
        "email": customer["email"],
        "individual_name": None,
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_exempt": customer["tax_exempt"],
        "tax_ids": [],
    }


def _email_details(email: str | None) -> Json | None:
    if email is None:
        return None
    empty = dict.fromkeys(("address", "business_name", "individual_name", "name", "phone", "tax_ids"))
    return {**empty, "email": email, "tax_exempt": "none"}
