"""Checkout sessions: open until they are paid, expired by a call or by the clock. `paying.py` has what a buyer does.

What the session will make (its lines, its subscription_data) is kept in fields that begin with an underscore.
"""

from typing import Any

from . import checkout_lines, coupons, customers, forms, lifecycle
from .calls import Call, Route
from .checkout_parameters import PARAMETERS, check
from .errors import Json, refused
from .events import emit
from .lists import PAGING, page, whole
from .subscription_items import later_anchor, wanted_items


def create(call: Call, params: Json) -> Json:
    data = params.get("subscription_data") or {}
    expires_at = check(call, params, data)
    # From here on it executes: what is refused below is saved under the idempotency key.
    customer = customers.alive(call, params["customer"]) if params.get("customer") else None
    wanted = wanted_items(call, params["line_items"], "line_items")
    recurring = any(each["price"]["recurring"] for each in wanted)
    if params["mode"] == "subscription" and not recurring:
        raise refused(
            "You must provide at least one recurring price in `subscription` mode when using prices.",
            param="line_items",
        )
    if recurring and not all(each["price"]["recurring"] for each in wanted):
        raise refused(
            "The sandbox does not support one-time prices next to recurring ones.",
            code="sandbox_unsupported",
            param="line_items",
        )
    if params["mode"] == "payment" and recurring:
        raise refused(
            "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or"
            " use only one-time prices.",
            param="line_items",
        )
    if len({each["price"]["currency"] for each in wanted}) > 1:
        raise refused("All line items must have the same currency.", param="line_items")
    coupon = checkout_lines.only_coupon(call, params.get("discounts") or [])
    if recurring:
        later_anchor(call, data, wanted[0]["price"], "subscription_data[billing_cycle_anchor]")
    share = checkout_lines.due_share(call, wanted[0]["price"], data)
    lines = [checkout_lines.line(call, each, coupon) for each in wanted]
    due = [coupons.priced(each["price"], each["quantity"], coupon, share) for each in wanted]
    id = call.store.new_id("cs_live_a1" if call.livemode else "cs_test_a1", 56)
    subtotal = sum(amount for amount, _ in due)
    total = subtotal - sum(off for _, off in due)
    tax = params.get("automatic_tax") or {}
    one: Json = {
        "id": id,
        "object": "checkout.session",
        "adaptive_pricing": {"enabled": False},
        "after_expiration": None,
        "allow_promotion_codes": params.get("allow_promotion_codes"),
        "amount_subtotal": subtotal,
        "amount_total": total,
        "automatic_tax": {
            "enabled": bool(tax.get("enabled")),
            "liability": {"type": "self"} if tax.get("enabled") else None,
            "provider": "stripe" if tax.get("enabled") else None,
            "status": "requires_location_inputs" if tax.get("enabled") else None,
        },
        "billing_address_collection": params.get("billing_address_collection"),
        "cancel_url": params.get("cancel_url"),
        "client_reference_id": params.get("client_reference_id"),
        "client_secret": None,
        "collected_information": None,
        "consent": None,
        "consent_collection": None,
        "created": call.now,
        "currency": wanted[0]["price"]["currency"],
        "currency_conversion": None,
        "custom_fields": [],
        "custom_text": {
            "after_submit": None,
            "shipping_address": None,
            "submit": None,
            "terms_of_service_acceptance": None,
        },
        "customer": customer["id"] if customer else None,
        "customer_account": None,
        "customer_creation": None if customer else "always" if params["mode"] == "subscription" else "if_required",
        "customer_details": _details(customer) if customer else _email_details(params.get("customer_email")),
        "customer_email": params.get("customer_email"),
        "discounts": [{"coupon": coupon["id"], "promotion_code": None}] if coupon else [],
        "expires_at": expires_at,
        "integration_identifier": None,
        "invoice": None,
        "invoice_creation": None,
        "livemode": call.livemode,
        "locale": params.get("locale"),
        "managed_payments": {"enabled": False},
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "mode": params["mode"],
        "origin_context": None,
        "payment_intent": None,
        "payment_link": None,
        "payment_method_collection": params.get("payment_method_collection") or "always",
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
        "submit_type": params.get("submit_type"),
        "subscription": None,
        "success_url": params.get("success_url"),
        "tax_id_collection": {
            "enabled": bool((params.get("tax_id_collection") or {}).get("enabled")),
            "required": (params.get("tax_id_collection") or {}).get("required") or "never",
        },
        "total_details": {"amount_discount": subtotal - total, "amount_shipping": 0, "amount_tax": 0},
        "ui_mode": "hosted_page",
        "url": f"{call.base_url}/pay/{id}",
        "wallet_options": None,
        "_due": float(expires_at),
        "_intent": None,
        "_lines": lines,
        "_subscription": None,
        "_subscription_data": data,
    }
    return call.store.put("checkout_session", one)


def _details(customer: Json) -> Json:
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


def expire(call: Call, params: Json) -> Json:
    old = call.named("checkout_session", params["id"], noun="checkout.session")
    if old["status"] != "open":
        raise refused(
            'Only Checkout Sessions with a status in ["open"] can be expired. This Checkout Session has a status of'
            f" `{old['status']}`."
        )
    return expired(call, old)


def expired(call: Call, old: Json) -> Json:
    one = call.store.change("checkout_session", old["id"], status="expired", url=None, _due=None)
    emit(call, "checkout.session.expired", one)
    begun = call.find("subscription", old["_subscription"])
    if begun is not None and begun["status"] == "incomplete":  # its buyer is just being asked to authenticate
        lifecycle.abandon(call, begun)
    return one


def completed(call: Call, old: Json, **fields: Any) -> Json:
    """The caller announces it, as it knows the order."""
    return call.store.change("checkout_session", old["id"], status="complete", url=None, _due=None, **fields)


def details_of(customer: Json) -> Json:
    return _details(customer)


def retrieve(call: Call, params: Json) -> Json:
    return call.named("checkout_session", params["id"], noun="checkout.session")


def update(call: Call, params: Json) -> Json:
    old = call.named("checkout_session", params["id"], noun="checkout.session")
    if "metadata" not in params:
        return old
    metadata = forms.merge_metadata(old["metadata"], params["metadata"])
    return call.store.change("checkout_session", old["id"], metadata=metadata)


def line_items(call: Call, params: Json) -> Json:
    one = call.named("checkout_session", params["id"], noun="checkout.session")
    return whole(one["_lines"], f"/v1/checkout/sessions/{one['id']}/line_items")


def list_sessions(call: Call, params: Json) -> Json:
    email = (params.get("customer_details") or {}).get("email")

    def keep(one: Json) -> bool:
        if email is not None and (one["customer_details"] or {}).get("email") != email:
            return False
        return all(
            params.get(name) is None or one[name] == params[name]
            for name in ("status", "subscription", "payment_intent")
        )

    return page(
        call,
        "checkout_session",
        params,
        "/v1/checkout/sessions",
        noun="checkout.session",
        customer=params.get("customer"),
        keep=keep,
    )


_SESSION = "/v1/checkout/sessions/{id}"

ROUTES: list[Route] = [
    ("POST", "/v1/checkout/sessions", PARAMETERS, create),
    (
        "GET",
        "/v1/checkout/sessions",
        {
            **PAGING,
            "created": forms.created,
            "customer": forms.text(),
            "customer_details": forms.table({"email": forms.text()}),
            "payment_intent": forms.text(),
            "status": forms.one_of("complete", "expired", "open"),
            "subscription": forms.text(),
        },
        list_sessions,
    ),
    ("GET", _SESSION, {}, retrieve),
    ("POST", _SESSION, {"expand": forms.items(forms.identifier, 20), "metadata": forms.metadata}, update),
    ("POST", f"{_SESSION}/expire", {"expand": forms.items(forms.identifier, 20)}, expire),
    ("GET", f"{_SESSION}/line_items", PAGING, line_items),
]
