"""A payload is shown without what is personal."""

import json

import pytest

from billing.operators.redaction import HIDDEN, redact

PERSON = "Grace Hopper"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        ({"id": "evt_1", "type": "customer.subscription.updated", "created": 1, "livemode": False}, None),
        ({"object": "subscription", "status": "past_due", "items": {"data": [{"price": {"id": "price_1"}}]}}, None),
        ({"api_version": "2026-02-25.clover", "currency": "usd", "lines": [1, 2.5, None]}, None),
        ({"email": "g@x.org"}, {"email": HIDDEN}),
        ({"name": "grace"}, {"name": HIDDEN}),
        ({"customer_details": {"address": {"city": "paris"}}}, {"customer_details": HIDDEN}),
        ({"metadata": {"type": "kiloclaw", "team": "navy"}}, {"metadata": {"type": "kiloclaw", "team": HIDDEN}}),
        (
            {"client_secret": "cs_secret_1", "url": "u", "hosted_invoice_url": "x"},
            dict.fromkeys(("client_secret", "url", "hosted_invoice_url"), HIDDEN),
        ),
        ({"a_new_field": PERSON}, {"a_new_field": HIDDEN}),
        ({"a_new_field": ["+44 20", "de_1"]}, {"a_new_field": [HIDDEN, "de_1"]}),
        ("a text that is no JSON", HIDDEN),
        (None, None),
    ],
)
def test_what_is_not_stripes_own_is_hidden(payload: object, shown: object) -> None:
    """OPS-165"""
    assert redact(payload) == (payload if shown is None else shown)
    assert PERSON not in json.dumps(redact(payload))
