"""What the tests of operations share: a shop with buyers who have a subscription."""

import pytest

from billing.database import Database
from tests.support.operations_world import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)
