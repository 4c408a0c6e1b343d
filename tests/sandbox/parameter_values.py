"""For each parameter a value that makes a difference: by its name, or by address and name where the address matters."""

from typing import Any

from sandbox.calls import API_VERSION
from tests.sandbox.parameter_values_selling import SELLING
from tests.sandbox.parameter_world import DAY, NOW, Case, of

# Refused here, which is what the parameter does.
REFUSE = {
    "starting_after",  # what no list has; SBX-4 tests the pages
    "ending_before",
    ("POST /v1/prices", "product_data[name]"),  # beside a product
    ("POST /v1/subscriptions/{id}", "payment_behavior"),  # the card declines: 402
    ("POST /v1/checkout/sessions", "customer_email"),  # beside a customer
    ("POST /v1/checkout/sessions", "mode"),
    ("POST /v1/subscription_schedules", "from_subscription"),
}
_AHEAD = str(NOW + 10 * DAY)
_SUB_TRIAL = {"subscription_data": {"trial_period_days": "5"}}
_PRODUCTS = {
    "features": {
        "subscription_update": {
            "enabled": "true",
            "default_allowed_updates": {"0": "price"},
            "products": {"0": {"product": "prod_claw", "prices": {"0": "price_month"}}},
        }
    }
}
_NEW_PRODUCT = {"product": None, "product_data": {"name": "n"}}  # in place of one that exists

# What makes a difference: by parameter, or by address and parameter where the address matters.
VALUES: dict[Any, Case] = {
    # of many addresses
    "active": Case("false"),
    "allow_promotion_codes": Case("true"),
    "amount": Case("7"),
    "balance": Case("-40"),
    "automatic_tax[enabled]": Case("true"),
    "billing_address_collection": Case("required"),
    "billing_mode[type]": Case("classic"),
    "billing_mode[flexible][proration_discounts]": Case("included", shows_only=True),
    "cancel_at": Case(_AHEAD),
    "cancel_at_period_end": Case("true"),
    "cancellation_details[feedback]": Case("unused"),
    "collection_method": Case("send_invoice", {"days_until_due": "9"}),
    "created": Case({"gt": "9999999999"}),
    "currency": Case("EUR"),
    "customer": Case("cus_cat"),
    "days_until_due": Case("8", {"collection_method": "send_invoice"}),
    "default_payment_method": Case(of("card")),
    "default_tax_rates[0]": Case(of("rate")),
    "discounts[0][coupon]": Case("all_of_it"),
    "discounts[0][discount]": Case(of("discount")),
    "ending_before": Case("x"),
    "email": Case("ann@example.com"),
    "end_behavior": Case("cancel"),
    "inclusive": Case("true"),
    "invoice_settings[issuer][type]": Case("self", shows_only=True),
    "items[0][discounts][0][coupon]": Case("all_of_it"),
    "items[0][discounts][0][discount]": Case(of("discount")),
    "items[0][metadata]": Case({"a": "1"}),
    "items[0][price]": Case("price_half_year"),
    "items[0][quantity]": Case("3"),
    "items[0][tax_rates][0]": Case(of("rate")),
    "limit": Case("1"),
    "line_items[0][price]": Case("price_half_year"),
    "line_items[0][quantity]": Case("3"),
    "metadata": Case({"a": "1"}),
    "next_invoice_sequence": Case("40"),
    "invoice_prefix": Case("ABC"),
    "invoice_settings[default_payment_method]": Case(of("card")),
    "payment_method_collection": Case("if_required"),
    "payment_settings[save_default_payment_method]": Case("on_subscription"),
    "percentage": Case("9"),
    "phone": Case("+15551234"),
    "quantity": Case("3"),
    "status": Case("canceled"),
    "submit_type": Case("donate"),
    "tax_behavior": Case("inclusive"),
    "tax_exempt": Case("exempt"),
    "tax_rates[0]": Case(of("rate")),
    "tax_type": Case("vat"),
    "trial_end": Case(_AHEAD),
    "trial_settings[end_behavior][missing_payment_method]": Case("cancel"),
    "trial_period_days": Case("5"),
    "usage_type": Case("metered"),
    # coupons
    ("POST /v1/coupons", "amount_off"): Case("7", {"percent_off": "", "currency": "usd"}),
    ("POST /v1/coupons", "duration"): Case("forever"),
    ("POST /v1/coupons", "duration_in_months"): Case("2", {"duration": "repeating"}),
    ("POST /v1/coupons", "max_redemptions"): Case("2"),
    ("POST /v1/coupons", "percent_off"): Case("9"),
    ("POST /v1/coupons", "redeem_by"): Case(_AHEAD),
    # customers
    ("POST /v1/customers", "payment_method"): Case("pm_card_visa"),
    ("POST /v1/customers", "invoice_settings[default_payment_method]"): Case(
        "pm_card_visa", {"payment_method": "pm_card_visa"}
    ),
    ("POST /v1/customers/{id}/balance_transactions", "currency"): Case("USD"),
    ("GET /v1/customers/{id}/balance_transactions", "invoice"): Case(of("invoice")),
    "source": Case("tok_visa"),
    # disputes, events, charges
    ("GET /v1/disputes", "charge"): Case(of("charge")),
    ("GET /v1/disputes", "payment_intent"): Case(of("intent")),
    ("GET /v1/events", "delivery_success"): Case("true"),
    ("GET /v1/events", "type"): Case("invoice.paid"),
    ("GET /v1/events", "types[0]"): Case("invoice.paid"),
    ("GET /v1/charges", "payment_intent"): Case(of("intent")),
    # invoices
    ("POST /v1/invoices", "auto_advance"): Case("true"),
    ("POST /v1/invoices", "pending_invoice_items_behavior"): Case("include"),
    ("POST /v1/invoices", "subscription"): Case(of("sub")),
    ("POST /v1/invoices/{id}", "auto_advance"): Case("true"),
    ("POST /v1/invoices/{id}/pay", "paid_out_of_band"): Case("true"),
    ("POST /v1/invoices/{id}/pay", "payment_method"): Case(
        lambda ids: ids["card_of_cat"],
    ),
    ("GET /v1/invoices", "subscription"): Case(of("sub")),
    ("GET /v1/invoices", "status"): Case("draft"),
    ("GET /v1/invoices", "collection_method"): Case("send_invoice"),
    ("GET /v1/invoice_payments", "invoice"): Case(of("invoice")),
    ("GET /v1/invoice_payments", "payment[payment_intent]"): Case(of("intent")),
    ("GET /v1/invoice_payments", "payment[type]"): Case("charge"),
    ("POST /v1/invoiceitems", "currency"): Case("USD"),
    ("POST /v1/invoiceitems", "invoice"): Case(of("draft")),
    ("POST /v1/invoiceitems", "period[end]"): Case(_AHEAD),
    ("POST /v1/invoiceitems", "period[start]"): Case(_AHEAD),
    ("POST /v1/invoiceitems", "pricing[price]"): Case("price_once", {"amount": ""}),
    ("POST /v1/invoiceitems", "subscription"): Case(of("sub")),
    ("GET /v1/invoiceitems", "invoice"): Case(of("open")),
    ("GET /v1/invoiceitems", "pending"): Case("true"),
    # Payment Links, payment methods
    ("POST /v1/payment_links", "after_completion[redirect][url]"): Case(
        "https://example.com/", {"after_completion": {"type": "redirect"}}
    ),
    ("POST /v1/payment_links", "after_completion[type]"): Case(
        "redirect", {"after_completion": {"redirect": {"url": "https://example.com/"}}}
    ),
    ("POST /v1/payment_links", "subscription_data[metadata]"): Case({"a": "1"}),
    ("POST /v1/payment_links", "subscription_data[trial_period_days]"): Case("5"),
    ("POST /v1/payment_links", "subscription_data[trial_settings][end_behavior][missing_payment_method]"): Case(
        "cancel", _SUB_TRIAL
    ),
    ("POST /v1/payment_methods", "card[token]"): Case("tok_chargeCustomerFail"),
    ("POST /v1/payment_methods", "type"): Case("card", shows_only=True),
    ("GET /v1/payment_methods", "type"): Case("sepa_debit"),
    ("POST /v1/payment_intents", "confirm"): Case("true", {"payment_method": "pm_card_visa"}),
    ("POST /v1/payment_intents", "currency"): Case("eur"),
    ("POST /v1/payment_intents", "payment_method"): Case("pm_card_visa"),
    ("POST /v1/payment_intents", "setup_future_usage"): Case("on_session"),
    ("POST /v1/payment_intents/{id}/confirm", "payment_method"): Case("pm_card_createDispute"),
    ("POST /v1/payment_intents/{id}/cancel", "cancellation_reason"): Case("duplicate"),
    ("POST /v1/setup_intents", "confirm"): Case("true", {"payment_method": "pm_card_visa"}),
    ("POST /v1/setup_intents", "payment_method"): Case("pm_card_visa"),
    ("POST /v1/setup_intents", "usage"): Case("on_session"),
    ("GET /v1/setup_intents", "payment_method"): Case(of("card")),
    # the portal
    "configuration": Case(of("portal")),
    "return_url": Case("https://example.com/"),
    "features[customer_update][allowed_updates][0]": Case(
        "email", {"features": {"customer_update": {"enabled": "true"}}}
    ),
    "features[customer_update][enabled]": Case("true"),
    "features[invoice_history][enabled]": Case("false"),
    "features[payment_method_update][enabled]": Case("true"),
    "features[subscription_cancel][enabled]": Case("true"),
    "features[subscription_cancel][mode]": Case(
        "immediately", {"features": {"subscription_cancel": {"enabled": "true"}}}
    ),
    "features[subscription_cancel][proration_behavior]": Case(
        "always_invoice", {"features": {"subscription_cancel": {"enabled": "true"}}}
    ),
    "features[subscription_update][default_allowed_updates][0]": Case("quantity", _PRODUCTS),
    "features[subscription_update][enabled]": Case("false", _PRODUCTS),
    "features[subscription_update][products][0][prices][0]": Case("price_half_year", _PRODUCTS),
    "features[subscription_update][products][0][product]": Case(of("product"), _PRODUCTS),
    "features[subscription_update][proration_behavior]": Case("always_invoice", _PRODUCTS),
    ("GET /v1/billing_portal/configurations", "active"): Case("false"),
    ("GET /v1/billing_portal/configurations", "is_default"): Case("true"),
    # promotion codes
    ("POST /v1/promotion_codes", "active"): Case("false"),
    ("POST /v1/promotion_codes", "expires_at"): Case(_AHEAD),
    ("POST /v1/promotion_codes", "max_redemptions"): Case("2"),
    ("POST /v1/promotion_codes", "promotion[coupon]"): Case("half_once"),
    ("POST /v1/promotion_codes", "promotion[type]"): Case("coupon", shows_only=True),
    ("GET /v1/promotion_codes", "coupon"): Case("half_once"),
    # prices and products
    ("POST /v1/prices", "billing_scheme"): Case("per_unit", shows_only=True),
    ("POST /v1/prices", "product"): Case(of("product")),
    ("POST /v1/prices", "product_data[active]"): Case("false", _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[metadata]"): Case({"a": "1"}, _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[statement_descriptor]"): Case("d", _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[tax_code]"): Case("txcd_1", _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[unit_label]"): Case("seat", _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[id]"): Case("prod_new", _NEW_PRODUCT),
    ("POST /v1/prices", "product_data[name]"): Case("n"),
    ("POST /v1/prices", "recurring[interval]"): Case("year"),
    ("POST /v1/prices", "recurring[interval_count]"): Case("2"),
    ("POST /v1/prices", "recurring[meter]"): Case("mtr_9", {"recurring": {"usage_type": "metered", "meter": "mtr_1"}}),
    ("POST /v1/prices", "recurring[usage_type]"): Case("metered", {"recurring": {"meter": "mtr_1"}}),
    ("POST /v1/prices", "unit_amount"): Case("9"),
    ("GET /v1/prices", "product"): Case(of("product")),
    ("GET /v1/prices", "type"): Case("one_time"),
    ("GET /v1/prices", "currency"): Case("eur"),
    ("GET /v1/products", "ids[0]"): Case(of("product")),
    # refunds
    ("POST /v1/refunds", "charge"): Case(of("undisputed")),
    ("POST /v1/refunds", "payment_intent"): Case(of("undisputed_intent")),
    ("POST /v1/refunds", "reason"): Case("duplicate"),
    ("GET /v1/refunds", "charge"): Case(of("charge")),
    ("GET /v1/refunds", "payment_intent"): Case(of("intent")),
    # test clocks
    "frozen_time": Case(_AHEAD),
    "test_clock": Case(of("clock")),
    # webhook endpoints
    "enabled_events[0]": Case("charge.failed"),
    "url": Case("https://example.com/z"),
    ("POST /v1/webhook_endpoints", "api_version"): Case(API_VERSION),
    ("POST /v1/webhook_endpoints/{id}", "disabled"): Case("true"),
    **SELLING,
}
