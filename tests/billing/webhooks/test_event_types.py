"""The table of followed types."""

import pytest
from stripe.params import WebhookEndpointCreateParams

from billing.webhooks.event_types import FOLLOWED, EventAction, action_for


@pytest.mark.parametrize(("type", "followed"), FOLLOWED.items())
def test_every_followed_type_says_when_it_occurs(type, followed):
    """WHK-15."""
    assert followed.occurs_when.startswith("Occurs ")
    assert followed.occurs_when.endswith(".")


def test_followed_types_are_stripes():
    """WHK-15: a misspelt type would be an endpoint that cannot be set up, and an event that never comes."""
    listed = str(WebhookEndpointCreateParams.__annotations__["enabled_events"])
    assert [type for type in FOLLOWED if f'"{type}"' not in listed.replace("'", '"')] == []


def test_unknown_type_asks_for_nothing():
    """WHK-10."""
    assert action_for("product.created") is None
    assert action_for("customer.subscription.created") is EventAction.SYNC
