"""Migrations: bring a ledger to this version's schema.

One set of migrations serves SQLite and PostgreSQL. Several processes may start at once: SQLite's write
lock or a PostgreSQL advisory lock lets one of them work and the others find it done.
"""

from collections.abc import Callable

import sqlalchemy as sa
from alembic import command

from billing.database import Database
from billing.database.migrations.compatibility import Fit, Found, config, look_up, note_minimum
from billing.database.suitable import require_session
from billing.errors import ConfigurationError

ADVISORY_LOCK = 0x6F6E656C  # "onel": any number, as long as all of our processes use the same


Noted = Callable[[sa.Connection, str | None, str], None]


def upgrade(database: Database, *, noted: Noted = lambda _connection, _before, _after: None) -> Fit:
    """Run what is missing, and leave a newer ledger alone; how it fits now.

    `noted` is called with both versions where something was changed, in the same transaction. Raises
    ConfigurationError and LedgerUnavailable.
    """
    if database.is_sqlite:
        database.keep_wal()
    with database.write() as connection:
        database.allow(connection, None)  # to change a large table takes its time
        if not database.is_sqlite:
            require_session(connection)
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
        found = look_up(connection)
        if found.fit is Fit.TOO_NEW:
            raise ConfigurationError(found.sentence)
        if found.fit is not Fit.AHEAD:
            command.upgrade(config(connection), "head")
            note_minimum(connection)
        if found.fit is Fit.OLDER:
            noted(connection, found.version, str(look_up(connection).version))
    return Fit.CURRENT if found.fit is Fit.OLDER else found.fit


def find(database: Database) -> Found:
    """How the ledger and this version fit together. Raises LedgerUnavailable."""
    with database.read() as connection:
        return look_up(connection)
