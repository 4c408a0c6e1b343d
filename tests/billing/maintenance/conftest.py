"""What the tests of reconciling share."""

import pytest

from tests.support.reconcile_world import Shop


@pytest.fixture
def shop(database):
    """A shop on a ledger of its own."""
    return Shop(database)
