"""The parameters of a new checkout session, and what is wrong with them whatever the state may be."""

from . import forms
from .calls import Call
from .errors import Json, bad_parameter

_SHORTEST = 30 * 60
_LONGEST = 24 * 3600


def check(call: Call, params: Json, data: Json) -> int:
    """Refuses what no state could make right; answers when the session will expire."""
    forms.require(params, "mode", "line_items", "success_url")
    for pair in (("customer", "customer_email"), ("allow_promotion_codes", "discounts")):
        if all(params.get(name) for name in pair):
            raise bad_parameter(f"You may only specify one of these parameters: {', '.join(pair)}.", pair[0])
    if data and params["mode"] != "subscription":
        raise bad_parameter("You can not pass `subscription_data` in `payment` mode.", "subscription_data")
    for index, line in enumerate(params["line_items"]):
        for name in ("price", "quantity"):
            if line.get(name) is None:
                param = f"line_items[{index}][{name}]"
                raise bad_parameter(f"Missing required param: {param}.", param, code="parameter_missing")
    expires_at = params.get("expires_at")
    if expires_at is None:
        expires_at = call.now + _LONGEST
    elif expires_at - call.now < _SHORTEST:
        raise bad_parameter(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.", "expires_at"
        )
    elif expires_at - call.now > _LONGEST:
        raise bad_parameter(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.", "expires_at"
        )
    if data.get("trial_end") is not None and data.get("trial_period_days") is not None:
        raise bad_parameter(
            "You may only specify one of these parameters: trial_end, trial_period_days.", "subscription_data"
        )
    if data.get("trial_end") is not None and data["trial_end"] < call.now + 2 * 86400:
        raise bad_parameter(
            "The `trial_end` date has to be at least 2 days in the future.", "subscription_data[trial_end]"
        )
    return int(expires_at)


PARAMETERS: forms.Table = {
    **forms.unsupported(
        "after_expiration",
        "customer_account",
        "excluded_payment_method_types",
        "integration_identifier",
        "invoice_creation",
        "managed_payments",
        "optional_items",
        "payment_method_configuration",
        "payment_method_data",
        "permissions",
        "setup_intent_data",
        "shipping_options",
        "wallet_options",
    ),
    "adaptive_pricing": forms.anything,
    "allow_promotion_codes": forms.boolean,
    "automatic_tax": forms.table({"enabled": forms.boolean, "liability": forms.anything}),
    "billing_address_collection": forms.one_of("auto", "required"),
    "branding_settings": forms.anything,
    "cancel_url": forms.text(),
    "client_reference_id": forms.text(200),
    "consent_collection": forms.anything,
    "currency": forms.text(3),
    "custom_fields": forms.absent("custom fields"),
    "custom_text": forms.anything,
    "customer": forms.identifier,
    "customer_creation": forms.one_of("always", "if_required"),
    "customer_email": forms.text(800),
    "customer_update": forms.anything,
    "discounts": forms.items(forms.table({"coupon": forms.identifier})),
    "expand": forms.items(forms.identifier, 20),
    "expires_at": forms.integer(),
    "line_items": forms.items(
        forms.table(
            {
                "adjustable_quantity": forms.anything,
                "metadata": forms.metadata,
                "price": forms.identifier,
                "price_data": forms.absent("make the price first"),
                "quantity": forms.integer(1, 999_999),
            }
        )
    ),
    "locale": forms.text(10),
    "metadata": forms.metadata,
    "mode": forms.one_of("payment", "subscription"),
    "name_collection": forms.anything,
    "origin_context": forms.one_of("mobile_app", "web"),
    "payment_intent_data": forms.anything,
    "payment_method_collection": forms.one_of("always", "if_required"),
    "payment_method_options": forms.anything,
    "payment_method_types": forms.items(forms.one_of("card")),
    "phone_number_collection": forms.table({"enabled": forms.boolean}),
    "redirect_on_completion": forms.absent("only the hosted page"),
    "return_url": forms.absent("only the hosted page"),
    "saved_payment_method_options": forms.anything,
    "shipping_address_collection": forms.absent("shipping"),
    "submit_type": forms.one_of("auto", "book", "donate", "pay", "subscribe"),
    "subscription_data": forms.table(
        {
            "billing_cycle_anchor": forms.moment,
            "billing_mode": forms.anything,
            "description": forms.text(500),
            "invoice_settings": forms.anything,
            "metadata": forms.metadata,
            "proration_behavior": forms.one_of("create_prorations", "none"),
            "trial_end": forms.moment,
            "trial_period_days": forms.integer(1, 730),
            "trial_settings": forms.anything,
        }
    ),
    "success_url": forms.text(),
    "tax_id_collection": forms.table({"enabled": forms.boolean, "required": forms.one_of("if_supported", "never")}),
    "ui_mode": forms.one_of("hosted", "hosted_page"),
}
