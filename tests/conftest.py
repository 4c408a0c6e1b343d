"""Fixtures that every test may ask for; the parts of a package's own tests live in its folder."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.database import Database
from tests.databases import Postgres, running_postgres, sqlite_in


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The run's PostgreSQL."""
    with running_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """A migrated ledger: each test that asks for it runs on SQLite and on PostgreSQL."""
    if request.param == "sqlite":
        with sqlite_in(tmp_path) as ledger:
            yield ledger
    else:
        with request.getfixturevalue("postgres").fresh() as ledger:
            yield ledger
