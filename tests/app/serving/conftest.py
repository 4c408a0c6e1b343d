"""One web for the tests that send to a real socket: it starts once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import serving


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server runs; what it writes is in `output`."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="package")
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """`onelane web` over a SQLite ledger, without Redis: its port and its process."""
    with serving(folder) as (number, server):
        yield number, server.pid


@pytest.fixture(scope="package")
def port(served: tuple[int, int]) -> int:
    """Where it answers."""
    return served[0]
