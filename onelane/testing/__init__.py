"""onelane in the tests of an application: all of it in one process, over a Stripe that keeps state.

    def test_who_paid_gets_in(onelane):
        checkout = onelane.checkout("ann", "standard")
        onelane.pay(checkout)
        assert onelane.access("ann")["granted"]

A plugin of pytest: where onelane is installed, the fixture is there. `onelane_catalog` in the ini file names the
catalog, by default `catalog.toml` beside it. docs/testing.md shows the rest.
"""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

HERE = Path(__file__).parents[2]

if TYPE_CHECKING:
    from onelane.testing.installation import Installation


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know the setting of the ini file."""
    parser.addini("onelane_catalog", "The catalog of the fixture `onelane`, by its path.", default="catalog.toml")


@pytest.fixture(scope="session")
def onelane_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger with its tables, which each test gets a copy of."""
    _require_our_packages()
    from onelane.testing.installation import make_ledger  # here: pytest starts as quickly as without this plugin

    return make_ledger(tmp_path_factory.mktemp("onelane") / "empty.sqlite3")


@pytest.fixture
def onelane(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, onelane_ledger: Path
) -> Iterator["Installation"]:
    """An installation of this test's own, with nobody in it."""
    from onelane.testing.installation import Installation

    ledger = tmp_path_factory.mktemp("onelane") / "ledger.sqlite3"
    shutil.copy(onelane_ledger, ledger)
    with Installation(pytestconfig.rootpath / pytestconfig.getini("onelane_catalog"), ledger=ledger) as installation:
        yield installation


def _require_our_packages() -> None:
    """Say so where packages of the application have the names of ours, and would be imported in their place."""
    for name in ("app", "billing", "sandbox", "worker"):
        spec = find_spec(name)
        found = next(iter(spec.submodule_search_locations or ()), spec.origin) if spec else None
        if found is None or Path(found).resolve() != HERE / name:
            pytest.fail(
                f"The package {name} at {found} hides onelane's of that name. Use a running `onelane dev` in these"
                " tests (docs/testing.md).",
                pytrace=False,
            )
