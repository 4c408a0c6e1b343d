"""What a module of the kills may ask for. Its `world` it makes itself: each needs another one."""

from collections.abc import Iterator

import pytest

from tests.kills.postgres import KillablePostgres, killable_postgres
from tests.kills.subscribers import Subscribers
from tests.kills.world import World


@pytest.fixture(scope="module")
def postgres_of_ours() -> Iterator[KillablePostgres]:
    """A PostgreSQL that may be killed: nobody else's."""
    with killable_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def buyers(world: World) -> Subscribers:
    """Customers of the module's world."""
    return Subscribers(world)
