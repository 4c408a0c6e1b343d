"""What [session] of a catalog may say: what Stripe would refuse for every buyer stops the start (CHK-32)."""

from typing import Any

import pytest
from stripe import RequestOptions
from stripe.params.checkout import SessionCreateParams

from billing.rules.session_extras import ALLOWED, NEVER, OWN, wrong_extras

TAX: dict[str, Any] = {"automatic_tax": {"enabled": True}}
TAX_ID: dict[str, Any] = {"tax_id_collection": {"enabled": True}}
SHIPPING = {"shipping_address_collection": {"allowed_countries": ["DE"]}}
FITS: list[dict[str, Any]] = [
    {},
    {"billing_address_collection": "required", "locale": "de", "phone_number_collection": {"enabled": True}},
    {**TAX, "customer_update": {"address": "auto"}},
    {**TAX, **SHIPPING, "customer_update": {"shipping": "auto"}},
    {**TAX_ID, "customer_update": {"name": "auto"}},
    {**TAX, **TAX_ID, "customer_update": {"name": "auto", "address": "auto"}},
    {"automatic_tax": {"enabled": False}, "tax_id_collection": {"enabled": False}},
    {"consent_collection": {"terms_of_service": "required"}},
    {"payment_method_options": {"card": {"request_three_d_secure": "any"}}},
]
WRONG: list[tuple[dict[str, Any], str]] = [
    (TAX, "automatic_tax needs customer_update"),
    ({**TAX, "customer_update": {"address": "never"}}, "automatic_tax needs"),
    ({**TAX, "customer_update": {"name": "auto"}}, "automatic_tax needs"),
    (TAX_ID, "tax_id_collection needs customer_update"),
    ({**TAX_ID, "customer_update": {"address": "auto"}}, "tax_id_collection needs"),
    ({"customer_update": {"shipping": "auto"}}, "shipping_address_collection"),
    ({"automatic_taxes": {"enabled": True}}, "automatic_taxes, which Stripe does not have"),
    ({"automatic_tax": {"enable": True}}, "automatic_tax.enable"),
    ({"automatic_tax": {"enabled": "yes"}}, "automatic_tax.enabled to 'yes', which must be true or false"),
    ({"automatic_tax": {"enabled": 1}}, "true or false"),
    ({"automatic_tax": True}, "must be a table"),
    ({"customer_update": {"address": True}}, 'must be "auto" or "never"'),
    ({"customer_update": "auto"}, "must be a table"),
    ({"billing_address_collection": "always"}, 'must be "auto" or "required"'),
    ({"customer": "cus_1"}, "may not set customer: onelane sets it"),
    ({"after_expiration": {"recovery": {"enabled": True}}}, "onelane sets it"),
    ({"customer_creation": "always"}, "names a customer"),
    ({"invoice_creation": {"enabled": True}}, "its own invoices"),
    ({"payment_intent_data": {"description": "x"}}, "mode = payment"),
]


@pytest.mark.parametrize("session", FITS)
def test_what_stripe_takes_passes(session: dict[str, Any]) -> None:
    """CHK-32"""
    assert wrong_extras(session) is None


@pytest.mark.parametrize(("session", "says"), WRONG)
def test_what_stripe_would_refuse_is_said_in_one_sentence(session: dict[str, Any], says: str) -> None:
    """CHK-32"""
    sentence = wrong_extras(session)
    assert sentence is not None
    assert says in sentence
    assert "\n" not in sentence


def test_every_parameter_of_stripes_is_thought_of() -> None:
    """CHK-32: allowed, ours or never; and no name of ours is one that Stripe does not have."""
    known = set(SessionCreateParams.__annotations__) - set(RequestOptions.__annotations__)
    assert (set(ALLOWED) | set(NEVER) | OWN) - known <= {"payment_method_types"}
    assert known <= set(ALLOWED) | set(NEVER) | OWN
