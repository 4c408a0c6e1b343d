"""The migrations and the tables of `billing/models/` say the same (LED-15), and who may run on which schema."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from billing.database import Database
from billing.database.migrations import compatibility
from billing.database.migrations.compatibility import FIRST, Fit
from billing.database.migrations.upgrade import find, upgrade
from billing.doctor.servers import examine_ledger
from billing.errors import ConfigurationError
from billing.models import metadata
from billing.operators.readiness import examine_ledger as examine_readiness
from billing.process.settings import load_settings
from tests.support.newer_version import newer_version


def test_migrated_ledger_is_what_the_models_describe(database: Database) -> None:
    """LED-15: nothing to add, nothing to drop, on either database."""
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    """Every process may migrate at its start."""
    assert find(database).fit is Fit.CURRENT
    assert upgrade(database) is Fit.CURRENT
    assert find(database).fit is Fit.CURRENT


def test_empty_database_is_not_current(tmp_path: Path) -> None:
    """Readiness asks this."""
    empty = Database(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert find(empty).fit is Fit.OLDER
    empty.close()


@pytest.fixture
def as_newer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Fit]:
    """Migrate the ledger as the next version does it, whose migration says who may still run."""

    def migrate(database: Database, **options: str) -> Fit:
        with monkeypatch.context() as patch:
            patch.setattr(compatibility, "VERSIONS", newer_version(tmp_path, **options))
            return upgrade(database)

    return migrate


@pytest.fixture
def url(database: Database, request: pytest.FixtureRequest) -> str:
    """Of a ledger whose schema the test changes for good."""
    if database.is_sqlite:
        return str(database.url)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = f"newer_{re.sub('[^a-z]', '', request.node.name)[:40]}"
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    return database.url.set(database=name).render_as_string(hide_password=False)


def test_newer_schema_that_says_so_is_fine(url: str, as_newer: Callable[..., Fit]) -> None:
    """LED-69, fault 89: this version stays ready, and its `db upgrade` leaves everything alone."""
    ledger = Database(url)
    upgrade(ledger)
    assert as_newer(ledger, minimum=FIRST) is Fit.CURRENT
    assert find(ledger).fit is Fit.AHEAD
    assert examine_readiness(ledger) == {"database": "ok", "migrations": "ok"}
    assert upgrade(ledger) is Fit.AHEAD
    assert find(ledger).version == "9999"
    settings = load_settings(database_url=url, _env_file=None)
    assert {one.verdict.value for one in examine_ledger(settings)} == {"ok"}
    ledger.close()


def test_newer_schema_that_needs_a_newer_version_is_named(url: str, as_newer: Callable[..., Fit]) -> None:
    """LED-69, fault 89: and not with an advice that cannot help."""
    ledger = Database(url)
    upgrade(ledger)
    as_newer(ledger, minimum="9999")
    assert find(ledger).fit is Fit.TOO_NEW
    assert "newer than this version" in examine_readiness(ledger)["migrations"]
    with pytest.raises(ConfigurationError, match="newer than this version") as caught:
        upgrade(ledger)
    settings = load_settings(database_url=url, _env_file=None)
    said = [caught.value.sentence, *(one.sentence for one in examine_ledger(settings) if one.verdict == "wrong")]
    assert len(said) == 2
    for sentence in said:
        assert "of 9999, and need 9999" in sentence
        assert "db upgrade" not in sentence
    ledger.close()


def test_every_migration_says_who_may_still_run() -> None:
    """LED-69: from the first that could, each; none says that an older one may than the one before it."""
    scripts = list(ScriptDirectory.from_config(compatibility.config()).walk_revisions())[::-1]
    said = [script.module.minimum_version for script in scripts if script.revision >= FIRST]
    assert said == sorted(said)
    assert all(minimum <= script.revision for minimum, script in zip(said[::-1], scripts[::-1], strict=False))
