"""The parameters that a subscription is made with and changed by."""

from . import forms

DISCOUNTS = forms.items(forms.table({"coupon": forms.identifier}))
DETAILS = forms.table({"comment": forms.text(), "feedback": forms.text()})
SHARED: forms.Table = {
    **forms.unsupported(
        "add_invoice_items",
        "application_fee_percent",
        "billing_cycle_anchor_config",
        "billing_schedules",
        "billing_thresholds",
        "default_source",
        "default_tax_rates",
        "on_behalf_of",
        "pending_invoice_item_interval",
        "transfer_data",
        "trial_from_plan",
    ),
    "automatic_tax": forms.table({"enabled": forms.boolean, "liability": forms.anything}),
    "billing_mode": forms.anything,
    "cancel_at": forms.integer(0),
    "cancel_at_period_end": forms.boolean,
    "collection_method": forms.one_of("charge_automatically", "send_invoice"),
    "days_until_due": forms.integer(0),
    "default_payment_method": forms.text(),
    "description": forms.text(500),
    "discounts": DISCOUNTS,
    "expand": forms.items(forms.identifier, 20),
    "invoice_settings": forms.anything,
    "metadata": forms.metadata,
    "off_session": forms.boolean,
    "payment_behavior": forms.one_of(
        "allow_incomplete", "default_incomplete", "error_if_incomplete", "pending_if_incomplete"
    ),
    "payment_settings": forms.anything,
    "proration_behavior": forms.one_of("create_prorations", "none", "always_invoice"),
    "trial_end": forms.either("now", forms.moment),
    "trial_settings": forms.anything,
}
ITEM: forms.Table = {"price": forms.identifier, "quantity": forms.integer(0), "metadata": forms.metadata}
