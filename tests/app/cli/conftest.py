"""What the command line is tried in."""

from pathlib import Path

import pytest

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from tests.support.running_dev import ROOT


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a catalog and an up-to-date ledger."""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    ledger = Database(f"sqlite:///{tmp_path}/var/ledger.sqlite3")
    upgrade(ledger)
    ledger.close()
    return tmp_path
