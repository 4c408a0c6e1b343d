"""Every field of a phase that Stripe shows is sent back, or the switch is refused (SUB-82)."""

from typing import Any

import pytest

from billing.operations.phases import (
    NotCarriedError,
    carry,
)

NOW, END = 1_800_000_000, 1_802_592_000
ACCOUNT = {"type": "account", "account": {"id": "acct_1"}}
AS_SHOWN: dict[str, tuple[Any, Any]] = {
    "application_fee_percent": (5.0, 5.0),
    "automatic_tax": (
        {"disabled_reason": None, "enabled": True, "liability": ACCOUNT},
        {"enabled": True, "liability": {"type": "account", "account": "acct_1"}},
    ),
    "billing_cycle_anchor": ("automatic", "automatic"),
    "billing_thresholds": ({"amount_gte": 5}, {"amount_gte": 5}),
    "collection_method": ("send_invoice", "send_invoice"),
    "currency": ("usd", "usd"),
    "default_payment_method": ({"id": "pm_1"}, "pm_1"),
    "default_tax_rates": ([{"id": "txr_1"}, "txr_2"], ["txr_1", "txr_2"]),
    "description": ("17", "17"),
    "discounts": (
        [
            {"discount": {"id": "di_1"}, "coupon": "half"},
            {"promotion_code": "promo_1", "coupon": "x"},
            {"coupon": "half"},
        ],
        [{"discount": "di_1"}, {"promotion_code": "promo_1"}, {"coupon": "half"}],
    ),
    "invoice_settings": (
        {"account_tax_ids": [{"id": "txi_1"}], "custom_fields": [{"name": "a", "value": "b"}], "days_until_due": 9}
        | {"description": "d", "footer": "f", "issuer": {"type": "self"}},
        {"account_tax_ids": ["txi_1"], "custom_fields": [{"name": "a", "value": "b"}], "days_until_due": 9}
        | {"description": "d", "footer": "f", "issuer": {"type": "self"}},
    ),
    "items": (
        [
            {
                "price": {"id": "price_1"},
                "plan": {"id": "price_1"},
                "quantity": 2,
                "billing_thresholds": {"usage_gte": 5},
            }
            | {"discounts": [{"coupon": "half"}], "metadata": {"seat": "7"}, "tax_rates": [{"id": "txr_1"}]}
        ],
        [
            {"price": "price_1", "quantity": 2, "billing_thresholds": {"usage_gte": 5}}
            | {"discounts": [{"coupon": "half"}], "metadata": {"seat": "7"}, "tax_rates": ["txr_1"]}
        ],
    ),
    "metadata": ({"contract": "17"}, {"contract": "17"}),
    "on_behalf_of": ({"id": "acct_1"}, "acct_1"),
    "transfer_data": (
        {"amount_percent": 5, "destination": {"id": "acct_1"}},
        {"amount_percent": 5, "destination": "acct_1"},
    ),
    "trial": (False, False),
    "trial_end": (END, END),
    # what says nothing is left out, known or not
    "novelty": ([], None),
    "another_novelty": ({}, None),
    "a_third": (None, None),
    "a_fourth": ("", None),
}


@pytest.mark.parametrize("name", AS_SHOWN)
def test_every_field_of_a_phase_is_sent_back_objects_by_their_ids(name: str) -> None:
    """SUB-82"""
    shown, sent = AS_SHOWN[name]
    assert carry({"start_date": NOW, "end_date": END, name: shown}, metered=()) == (
        {} if sent is None else {name: sent}
    )


@pytest.mark.parametrize(
    ("shown", "words"),
    [
        ({"novelty": "on"}, "novelty"),
        ({"novelty": 0}, "novelty"),
        ({"novelty": False}, "novelty"),
        ({"items": [{"price": "price_1", "novelty": "on"}]}, "novelty"),
        ({"automatic_tax": {"enabled": True, "novelty": "on"}}, "novelty"),
        ({"discounts": [{"discount": None, "novelty": "di_1"}]}, "discount"),
    ],
)
def test_field_that_is_not_known_is_never_dropped(shown: dict[str, Any], words: str) -> None:
    """SUB-82: it would be gone when the phase begins."""
    with pytest.raises(NotCarriedError, match=words):
        carry(shown, metered=())
