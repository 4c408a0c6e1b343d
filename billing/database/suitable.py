"""What a database has to be: asked at the start of every process, by `db upgrade` and by `doctor`.

A pooler such as PgBouncer may take a session's settings away, allow no transactions, or have too few places for the
connections of one process. Each is refused in one line, and not found out under load.
"""

from contextlib import ExitStack
from dataclasses import dataclass

import sqlalchemy as sa

from billing.database.engine import Database
from billing.database.postgres import POOLED
from billing.errors import ConfigurationError, LedgerMisconfigured, LedgerUnavailable

ASSUMED = sa.text(
    "SELECT current_setting('server_encoding'), current_setting('client_encoding'), current_setting('DateStyle'),"
    " current_schema(), current_database(), current_user, current_setting('synchronous_commit')"
)
# What is not reserved, the limits of the role and of the database (-1: none), and who else is there.
ROOM = sa.text(
    """SELECT current_setting('max_connections')::int
         - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0),
       (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
       (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
       (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()
        AND (datname IS DISTINCT FROM current_database() OR application_name IS DISTINCT FROM 'onelane'))"""
)


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections the server has for all processes of ours together."""

    connections: int
    pooled: bool  # a pooler is in between, whose places are not known


def require_suitable(database: Database) -> None:
    """Refuse a database that the ledger cannot be in. Raises ConfigurationError and LedgerUnavailable."""
    try:
        with database.write() as connection:
            pooled = not database.is_sqlite and require_session(connection)
    except LedgerMisconfigured as error:
        raise ConfigurationError(error.for_operator) from None
    if pooled:
        _require_places(database)


def require_session(connection: sa.Connection) -> bool:
    """Refuse a PostgreSQL whose sessions are not as assumed; whether there is a pooler. Raises ConfigurationError."""
    server, client, dates, schema, name, user, commits = connection.execute(ASSUMED).one()
    if server != "UTF8":
        raise ConfigurationError(
            f"DATABASE_URL: the database {name} is {server}. Make one with ENCODING 'UTF8' TEMPLATE template0."
        )
    remedy = f"Run ALTER ROLE {user} SET"
    if client != "UTF8":
        raise ConfigurationError(f"DATABASE_URL: client_encoding is {client}. {remedy} client_encoding = 'UTF8'.")
    if not dates.startswith("ISO"):
        raise ConfigurationError(f"DATABASE_URL: DateStyle is {dates}. {remedy} DateStyle = 'ISO'.")
    if schema is None:
        raise ConfigurationError(f"DATABASE_URL: search_path names no schema. {remedy} search_path = 'public'.")
    if commits == "off":
        raise ConfigurationError(
            "DATABASE_URL: synchronous_commit is off, so what was answered could be lost."
            f" {remedy} synchronous_commit = 'on'."
        )
    return bool(connection.info[POOLED])


def room(connection: sa.Connection) -> Room:
    """The room on the server of this connection. PostgreSQL only."""
    allowed, role, name, others = connection.execute(ROOM).one()
    limits = [limit for limit in (role, name) if limit >= 0]
    return Room(min(allowed - others, *limits) if limits else allowed - others, bool(connection.info[POOLED]))


def _require_places(database: Database) -> None:
    """Have all connections at once that the pool may have: each asks something."""
    places = 0
    try:
        with ExitStack() as stack:
            for _ in range(database.pool_size):
                stack.enter_context(database.read()).execute(sa.text("SELECT 1"))
                places += 1
    except LedgerUnavailable:
        if not places:
            raise
        raise ConfigurationError(
            f"DATABASE_URL: the pooler gives this process {places} of its {database.pool_size} connections. "
            f"Set pool_mode = transaction or a larger pool there, or DATABASE_POOL_SIZE={places}."
        ) from None
