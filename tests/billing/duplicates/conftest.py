"""The world of the tests about duplicates."""

import pytest

from billing.database import Database
from tests.support.duplicates_world import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)
