"""A subscription schedule as it begins."""

from . import forms
from .calls import Call
from .errors import Json


def new_schedule(call: Call, customer: str, phases: list[Json], params: Json) -> Json:
    """Not started and not stored yet."""
    settings = params.get("default_settings") or {}
    return {
        "id": call.store.new_id("sub_sched_1"),
        "object": "subscription_schedule",
        "application": None,
        "billing_mode": {
            "flexible": {"proration_discounts": "included"},
            "type": "flexible",
            **(params.get("billing_mode") or {}),
        },
        "canceled_at": None,
        "completed_at": None,
        "created": call.now,
        "current_phase": None,
        "customer": customer,
        "customer_account": None,
        "default_settings": {
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": None,
            "collection_method": "charge_automatically",
            "default_payment_method": None,
            "description": None,
            "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
            "on_behalf_of": None,
            "transfer_data": None,
            **settings,
        },
        "end_behavior": params.get("end_behavior") or "release",
        "livemode": call.livemode,
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "pause_schedules": [],
        "phases": phases,
        "released_at": None,
        "released_subscription": None,
        "status": "not_started",
        "subscription": None,
        "test_clock": call.test_clock,
    }
