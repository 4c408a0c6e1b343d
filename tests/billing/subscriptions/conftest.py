"""The world of the tests about access and money."""

import pytest

from tests.support.access_world import Shop


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)
