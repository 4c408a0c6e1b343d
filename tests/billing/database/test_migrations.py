"""The migrations and the tables of `billing/models/` say the same (LED-15)."""

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from billing.database import Database
from billing.database.migrations import upgrade
from billing.models import metadata


def test_migrated_ledger_is_what_the_models_describe(database: Database) -> None:
    """LED-15: nothing to add, nothing to drop, on either database."""
    with database.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrating_again_changes_nothing(database: Database) -> None:
    """Every process may migrate at its start."""
    assert upgrade.is_current(database)
    upgrade.upgrade(database)
    assert upgrade.is_current(database)


def test_empty_database_is_not_current(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Readiness asks this."""
    empty = Database(f"sqlite:///{tmp_path / 'empty.sqlite3'}")
    assert not upgrade.is_current(empty)
    empty.close()
