"""What the tests of erasing share."""

import pytest

from tests.support.erase_world import Shop


@pytest.fixture
def shop(database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)
