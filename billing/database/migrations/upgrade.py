"""Migrations: bring a ledger to this version's schema, or say whether it is there.

One set of migrations serves SQLite and PostgreSQL. Several processes may start at once: SQLite's write
lock or a PostgreSQL advisory lock lets one of them work and the others find it done.
"""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from billing.database import Database
from billing.database.suitable import require_session

ADVISORY_LOCK = 0x6F6E656C  # "onel": any number, as long as all of our processes use the same


def upgrade(database: Database) -> None:
    """Run what is missing. Raises ConfigurationError and LedgerUnavailable."""
    if database.is_sqlite:
        database.keep_wal()
    with database.write() as connection:
        database.allow(connection, None)  # to change a large table takes its time
        if not database.is_sqlite:
            require_session(connection)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        command.upgrade(_config(connection), "head")


def is_current(database: Database) -> bool:
    """Whether the ledger has this version's schema. Raises LedgerUnavailable."""
    with database.read() as connection:
        return is_current_in(connection)


def is_current_in(connection: sa.Connection) -> bool:
    """The same, in a transaction."""
    current = MigrationContext.configure(connection).get_current_revision()
    return current == ScriptDirectory.from_config(_config()).get_current_head()


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.attributes["connection"] = connection
    return config
