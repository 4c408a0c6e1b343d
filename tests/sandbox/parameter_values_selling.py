"""The values that make a difference to sessions, schedules and subscriptions (see `parameter_values`)."""

from typing import Any

from tests.sandbox.parameter_world import DAY, NOW, Case, of

ADDRESS = ("city", "country", "line1", "line2", "postal_code", "state")
_AHEAD = str(NOW + 10 * DAY)
_TRIAL = {"trial_period_days": "5"}
_SUB_TRIAL = {"subscription_data": {"trial_period_days": "5"}}
_ONCE = {
    "mode": "payment",
    "line_items": {"0": {"price": "price_once", "quantity": "1"}},
}
_PAUSED = {"pause_collection": {"behavior": "void"}}

_BILLED_ONCE = {"phases": {"0": {"add_invoice_items": {"0": {"price": "price_once"}}}}}
_OF_PHASES = {
    "add_invoice_items[0][metadata]": Case({"a": "1"}, _BILLED_ONCE),
    "add_invoice_items[0][period][end][type]": Case("phase_end", _BILLED_ONCE, shows_only=True),
    "add_invoice_items[0][period][start][type]": Case("phase_start", _BILLED_ONCE, shows_only=True),
    "add_invoice_items[0][price]": Case("price_once"),
    "add_invoice_items[0][quantity]": Case("3", _BILLED_ONCE),
    "automatic_tax[enabled]": Case("true"),
    "automatic_tax[liability][type]": Case(
        "self", {"phases": {"0": {"automatic_tax": {"enabled": "true"}}}}, shows_only=True
    ),
    "billing_cycle_anchor": Case("phase_start"),
    "collection_method": Case("send_invoice", {"phases": {"0": {"invoice_settings": {"days_until_due": "3"}}}}),
    "currency": Case("usd", shows_only=True),
    "default_payment_method": Case(of("card_of_cat")),
    "default_tax_rates[0]": Case(of("rate")),
    "discounts[0][coupon]": Case("half_once"),
    "discounts[0][discount]": Case(of("discount")),
    "duration[interval]": Case("year"),
    "duration[interval_count]": Case("3"),
    "end_date": Case(_AHEAD, {"phases": {"0": {"duration": ""}}}),
    "invoice_settings[days_until_due]": Case("3", {"phases": {"0": {"collection_method": "send_invoice"}}}),
    "invoice_settings[issuer][type]": Case("self"),
    "items[0][discounts][0][coupon]": Case("half_once"),
    "items[0][discounts][0][discount]": Case(of("discount")),
    "items[0][metadata]": Case({"a": "1"}),
    "items[0][price]": Case("price_half_year"),
    "items[0][quantity]": Case("3"),
    "items[0][tax_rates][0]": Case(of("rate")),
    "metadata": Case({"a": "1"}),
    "proration_behavior": Case("none"),
    "start_date": Case(str(NOW), shows_only=True),  # of the current phase: it must say the same
    "trial_end": Case(_AHEAD),
}

SELLING: dict[Any, Case] = {
    ("POST /v1/subscriptions/{id}/resume", "billing_cycle_anchor"): Case("now", shows_only=True),
    # Schedules
    ("POST /v1/subscription_schedules/{id}/cancel", "invoice_now"): Case("false"),
    ("POST /v1/subscription_schedules/{id}/cancel", "prorate"): Case("false"),
    # Checkout
    ("POST /v1/checkout/sessions", "automatic_tax[enabled]"): Case("true", {"customer_update": {"address": "auto"}}),
    ("POST /v1/checkout/sessions", "consent_collection[promotions]"): Case("auto"),
    ("POST /v1/checkout/sessions", "consent_collection[terms_of_service]"): Case("required"),
    ("POST /v1/checkout/sessions", "customer_update[address]"): Case("auto"),
    ("POST /v1/checkout/sessions", "customer_update[name]"): Case("auto"),
    ("POST /v1/checkout/sessions", "customer_update[shipping]"): Case("auto"),
    ("POST /v1/checkout/sessions", "expires_at"): Case(str(NOW + 3600)),
    ("POST /v1/checkout/sessions", "line_items[0][metadata]"): Case({"a": "1"}),
    ("POST /v1/checkout/sessions", "line_items[0][tax_rates][0]"): Case(of("rate")),
    ("POST /v1/checkout/sessions", "locale"): Case("de"),
    ("POST /v1/checkout/sessions", "origin_context"): Case("web"),
    ("POST /v1/checkout/sessions", "payment_intent_data[metadata]"): Case({"a": "1"}, _ONCE),
    ("POST /v1/checkout/sessions", "payment_intent_data[setup_future_usage]"): Case("off_session", _ONCE),
    **{
        ("POST /v1/checkout/sessions", f"payment_intent_data[shipping][{name}]"): Case("x", _ONCE)
        for name in ("name", "phone", *(f"address][{part}" for part in ADDRESS))
    },
    ("POST /v1/checkout/sessions", "payment_intent_data[description]"): Case("d", _ONCE),
    ("POST /v1/checkout/sessions", "phone_number_collection[enabled]"): Case("true"),
    ("POST /v1/checkout/sessions", "subscription_data[billing_cycle_anchor]"): Case(_AHEAD),
    ("POST /v1/checkout/sessions", "subscription_data[billing_mode][type]"): Case("classic"),
    ("POST /v1/checkout/sessions", "subscription_data[billing_mode][flexible][proration_discounts]"): Case(
        "included", {"subscription_data": {"billing_mode": {"type": "flexible"}}}, shows_only=True
    ),
    ("POST /v1/checkout/sessions", "subscription_data[default_tax_rates][0]"): Case(of("rate")),
    ("POST /v1/checkout/sessions", "subscription_data[invoice_settings][issuer][type]"): Case("self", shows_only=True),
    ("POST /v1/checkout/sessions", "subscription_data[metadata]"): Case({"a": "1"}),
    ("POST /v1/checkout/sessions", "subscription_data[proration_behavior]"): Case(
        "none", {"subscription_data": {"billing_cycle_anchor": _AHEAD}}
    ),
    ("POST /v1/checkout/sessions", "subscription_data[trial_end]"): Case(_AHEAD),
    ("POST /v1/checkout/sessions", "subscription_data[trial_period_days]"): Case("5"),
    ("POST /v1/checkout/sessions", "subscription_data[trial_settings][end_behavior][missing_payment_method]"): Case(
        "cancel", _SUB_TRIAL
    ),
    ("POST /v1/checkout/sessions", "tax_id_collection[enabled]"): Case("true", {"customer_update": {"name": "auto"}}),
    ("POST /v1/checkout/sessions", "tax_id_collection[required]"): Case("if_supported"),
    ("POST /v1/checkout/sessions", "ui_mode"): Case("hosted_page", shows_only=True),
    ("GET /v1/checkout/sessions", "customer_details[email]"): Case("nobody@example.com"),
    ("GET /v1/checkout/sessions", "payment_intent"): Case(of("intent")),
    ("GET /v1/checkout/sessions", "status"): Case("open"),
    ("GET /v1/checkout/sessions", "subscription"): Case(of("paid_sub")),
    # schedules
    "default_settings[automatic_tax][enabled]": Case("true"),
    "default_settings[automatic_tax][liability][type]": Case(
        "self", {"default_settings": {"automatic_tax": {"enabled": "true"}}}
    ),
    "default_settings[billing_cycle_anchor]": Case("phase_start"),
    "default_settings[collection_method]": Case("send_invoice"),
    "default_settings[default_payment_method]": Case(of("card")),
    ("POST /v1/subscription_schedules", "customer"): Case("cus_ann"),
    ("POST /v1/subscription_schedules", "start_date"): Case(_AHEAD),
    ("POST /v1/subscription_schedules/{id}", "proration_behavior"): Case(
        "always_invoice", {"phases": {"0": {"items": {"0": {"quantity": "2"}}}}}
    ),
    ("POST /v1/subscription_schedules/{id}/release", "preserve_cancel_date"): Case("true"),
    ("GET /v1/subscription_schedules", "scheduled"): Case("true"),
    # subscriptions
    ("POST /v1/subscriptions", "billing_cycle_anchor"): Case(_AHEAD),
    ("POST /v1/subscriptions", "currency"): Case("usd", shows_only=True),
    ("POST /v1/subscriptions", "customer"): Case("cus_ann"),
    ("POST /v1/subscriptions", "default_payment_method"): Case(of("second_card_of_cat")),
    ("POST /v1/subscriptions", "payment_behavior"): Case("default_incomplete"),
    ("POST /v1/subscriptions", "proration_behavior"): Case("none", {"billing_cycle_anchor": _AHEAD}),
    ("POST /v1/subscriptions", "trial_settings[end_behavior][missing_payment_method]"): Case("cancel", _TRIAL),
    **{
        ("POST /v1/subscriptions/{id}", name): Case(value, lambda ids: {"items": {"0": {"id": ids["item"]}}})
        for name, value in (
            ("items[0][discounts][0][coupon]", "half_once"),
            ("items[0][discounts][0][discount]", of("discount")),
            ("items[0][metadata]", {"a": "1"}),
            ("items[0][quantity]", "3"),
            ("items[0][tax_rates][0]", of("rate")),
        )
    },
    ("POST /v1/subscriptions/{id}", "billing_cycle_anchor"): Case("now"),
    ("POST /v1/subscriptions/{id}", "default_payment_method"): Case(of("card")),
    ("POST /v1/subscriptions/{id}", "payment_behavior"): Case(
        "error_if_incomplete",
        lambda ids: {
            "items": {"0": {"id": ids["item"], "price": "price_half_year"}},
            "default_payment_method": ids["declining"],
        },
    ),
    ("POST /v1/subscriptions/{id}", "cancellation_details[comment]"): Case("c"),
    ("POST /v1/subscriptions/{id}", "items[0][id]"): Case(of("item"), {"items": {"0": {"price": "price_half_year"}}}),
    ("POST /v1/subscriptions/{id}", "items[0][deleted]"): Case(
        "true", lambda ids: {"items": {"0": {"id": ids["item"]}, "1": {"price": "price_half_year"}}}
    ),
    ("POST /v1/subscriptions/{id}", "pause_collection[behavior]"): Case("void"),
    ("POST /v1/subscriptions/{id}", "pause_collection[resumes_at]"): Case(_AHEAD, _PAUSED),
    ("POST /v1/subscriptions/{id}", "proration_behavior"): Case(
        "always_invoice", lambda ids: {"items": {"0": {"id": ids["item"], "quantity": "2"}}}
    ),
    ("POST /v1/subscriptions/{id}", "proration_date"): Case(
        str(NOW + DAY), lambda ids: {"items": {"0": {"id": ids["item"], "quantity": "2"}}}
    ),
    ("DELETE /v1/subscriptions/{id}", "invoice_now"): Case("true"),
    ("DELETE /v1/subscriptions/{id}", "prorate"): Case("true"),
    ("GET /v1/subscription_items", "subscription"): Case(of("discounted")),
    ("GET /v1/subscriptions", "price"): Case("price_half_year"),
    ("GET /v1/subscriptions", "collection_method"): Case("send_invoice"),
    **{
        f"phases[0][{name.replace('[', '][', 1) if '[' in name else name + ']'}": case
        for name, case in _OF_PHASES.items()
    },
}
