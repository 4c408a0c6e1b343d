"""The parameters of a new checkout session, and what is wrong with them whatever the state may be."""

from . import forms, intent_objects, settings, subscription_parameters, tax_rates
from .calls import Call
from .errors import Json, bad_parameter, refused

_SHORTEST = 30 * 60
_LONGEST = 24 * 3600
_EXCLUSIVE = (("customer", "customer_email"), ("allow_promotion_codes", "discounts"))
_AUTO = forms.one_of("auto", "never")


def check(call: Call, params: Json, data: Json) -> int:
    """Refuses what no state could make right; answers when the session will expire."""
    forms.require(params, "mode", "line_items", "success_url")
    for pair in _EXCLUSIVE:
        if all(params.get(name) for name in pair):
            raise bad_parameter(f"You may only specify one of these parameters: {', '.join(pair)}.", pair[0])
    if data and params["mode"] != "subscription":
        raise bad_parameter("You can not pass `subscription_data` in `payment` mode.", "subscription_data")
    if params.get("payment_method_collection") and params["mode"] != "subscription":
        raise bad_parameter(
            "You can only set `payment_method_collection` in `subscription` mode.", "payment_method_collection"
        )
    if params.get("customer_update") and not params.get("customer"):
        raise bad_parameter("`customer_update` can only be used with `customer`.", "customer_update")
    if data.get("trial_settings") and not (data.get("trial_end") or data.get("trial_period_days")):
        raise bad_parameter(
            "`trial_settings` can only be set if the subscription has a trial period.",
            "subscription_data[trial_settings]",
        )
    if data.get("trial_end") is not None and data["trial_end"] < call.wall + 2 * 86400:
        raise bad_parameter(
            "The `trial_end` date has to be at least 2 days in the future.", "subscription_data[trial_end]"
        )
    return _expires_at(call, params.get("expires_at"))


def _expires_at(call: Call, expires_at: int | None) -> int:
    if expires_at is None:
        return call.wall + _LONGEST
    if expires_at - call.wall < _SHORTEST:
        raise bad_parameter(
            "The `expires_at` timestamp must be at least 30 minutes from Checkout Session creation.", "expires_at"
        )
    if expires_at - call.wall > _LONGEST:
        raise bad_parameter(
            "The `expires_at` timestamp must be less than 24 hours from Checkout Session creation.", "expires_at"
        )
    return expires_at


def check_customer(params: Json, customer: Json | None) -> None:
    """What an existing customer has to allow before Checkout may ask for an address or a tax id."""
    update = params.get("customer_update") or {}
    if customer is None:
        return
    if (params.get("automatic_tax") or {}).get("enabled") and not (
        (customer["address"] or {}).get("country") or "auto" in (update.get("address"), update.get("shipping"))
    ):
        raise bad_parameter(
            "Automatic tax calculation in Checkout requires a valid address on the Customer. Add a valid address to the"
            " Customer or set either `customer_update[address]` to 'auto' or `customer_update[shipping]` to 'auto' to"
            " save the address entered in Checkout to the Customer.",
            "customer",
            code="customer_tax_location_invalid",
        )
    if (params.get("tax_id_collection") or {}).get("enabled") and update.get("name") != "auto":
        raise bad_parameter(
            "Tax ID collection requires updating business name on the customer. To enable tax ID collection for an"
            " existing customer, please set `customer_update[name]` to `auto`.",
            "tax_id_collection",
        )


def check_origin(call: Call, params: Json) -> None:
    """Automatic tax needs to know where the account sells from."""
    mode = "live" if call.livemode else "test"
    if (params.get("automatic_tax") or {}).get("enabled") and settings.shown(call.store)["tax"] == "no_origin":
        raise refused(
            f"You must have a valid origin address to enable automatic tax calculation in {mode} mode. Visit"
            " https://dashboard.stripe.com/settings/tax to update it."
        )


PARAMETERS: forms.Table = {
    "allow_promotion_codes": forms.boolean,
    "automatic_tax": forms.table({"enabled": forms.boolean}),
    "billing_address_collection": forms.one_of("auto", "required"),
    "cancel_url": forms.text(),
    "client_reference_id": forms.text(200),
    "consent_collection": forms.table(
        {"promotions": forms.one_of("auto", "none"), "terms_of_service": forms.one_of("none", "required")}
    ),
    "custom_text": forms.table(
        {
            name: forms.table({"message": forms.identifier})
            for name in ("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")
        }
    ),
    "customer": forms.identifier,
    "customer_email": forms.text(800),
    "customer_update": forms.table({"address": _AUTO, "name": _AUTO, "shipping": _AUTO}),
    "discounts": forms.items(forms.table({"coupon": forms.identifier})),
    "expires_at": forms.integer(),
    "line_items": forms.items(
        forms.table(
            {
                "metadata": forms.metadata,
                "price": forms.identifier,
                "quantity": forms.integer(1, 999_999),
                "tax_rates": tax_rates.PARAMETER,
            }
        )
    ),
    "locale": forms.text(10),
    "metadata": forms.metadata,
    "mode": forms.one_of("payment", "subscription"),
    "origin_context": forms.one_of("mobile_app", "web"),
    "payment_intent_data": forms.table(
        {
            "description": forms.text(),
            "metadata": forms.metadata,
            "setup_future_usage": intent_objects.USAGE,
            "shipping": intent_objects.SHIPPING,
        }
    ),
    "payment_method_collection": forms.one_of("always", "if_required"),
    "phone_number_collection": forms.table({"enabled": forms.boolean}),
    "submit_type": forms.one_of("auto", "book", "donate", "pay", "subscribe"),
    "subscription_data": forms.table(
        {
            "billing_cycle_anchor": forms.moment,
            "billing_mode": subscription_parameters.BILLING_MODE,
            "default_tax_rates": tax_rates.PARAMETER,
            "description": forms.text(500),
            "invoice_settings": subscription_parameters.INVOICE_SETTINGS,
            "metadata": forms.metadata,
            "proration_behavior": forms.one_of("create_prorations", "none"),
            "trial_end": forms.moment,
            "trial_period_days": forms.integer(1, 730),
            "trial_settings": subscription_parameters.TRIAL_SETTINGS,
        }
    ),
    "success_url": forms.text(),
    "tax_id_collection": forms.table({"enabled": forms.boolean, "required": forms.one_of("if_supported", "never")}),
    "ui_mode": forms.one_of("hosted_page"),
}
# Kept on the session as they are sent.
SHOWN = (
    "allow_promotion_codes",
    "billing_address_collection",
    "cancel_url",
    "client_reference_id",
    "consent_collection",
    "customer_email",
    "locale",
    "origin_context",
    "submit_type",
    "success_url",
)
