"""Fixtures that every test may ask for; the parts of a package's own tests live in its folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from billing.database import Database
from tests.support.databases import Postgres, running_postgres, sqlite_in


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


# What starts many processes or a browser: one at a time each, on one worker of `pytest -n`.
ONE_WORKER = {
    "tests/app/dev/": "processes",
    "tests/bench/": "processes",
    "tests/kills/": "kills",  # mostly waits: beside the others it costs little
    "tests/browser/": "browser",
    "tests/app/test_server.py": "server",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keep groups together by path: xdist 3.8 loses its own groups (`xdist_group`) under pytest 9.2."""
    from xdist.scheduler import LoadScopeScheduling

    class ByPath(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((group for path, group in ONE_WORKER.items() if nodeid.startswith(path)), nodeid)

    return ByPath(config, log)
