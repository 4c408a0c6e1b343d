"""PostgreSQL: what a connection starts with, and who watches it.

What a session assumes goes along with the start of the connection (libpq's `options`), so that it costs no round trip.
A pooler such as PgBouncer refuses `options`, or ignores them, and changes the server between transactions. It is
recognised, and then nothing of the session is relied on: no prepared statements, and each BEGIN names its isolation.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
import sqlalchemy as sa
from sqlalchemy.pool import ConnectionPoolEntry

from billing.database.watch import Watch

CONNECT_SECONDS = 3  # across an ocean, TLS and password included, it takes 1 s; psycopg allows no less than 2
# 10 s: a hundred times what any transaction of ours takes under load; a buyer waits 20 s at the most.
TRANSACTION_SECONDS = 10.0
POOL_SECONDS = 3.0  # then the connections of this process are too few, or all hang
IDLE_SECONDS = 1.0  # a connection that nobody used for so long is asked whether it still is one
PING_SECONDS = 1.0
# 1: to parse the claim of an event takes longer than to run it; a connection claims a few in a burst.
PREPARE_AFTER = 1

# What the URL does not say. A host that dies without a word is given up after 5 s, used (tcp_user_timeout, in
# milliseconds) or unused (5 s without a word, then 3 questions).
CONNECT: Mapping[str, str | int] = {
    "connect_timeout": CONNECT_SECONDS,
    "tcp_user_timeout": 5000,
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "target_session_attrs": "read-write",  # of several hosts the one that takes writes, also after a switchover
    "client_encoding": "utf8",
    "fallback_application_name": "onelane",
}
# What a session assumes, whatever the server's, the database's and the user's defaults are.
SESSION: Mapping[str, str] = {
    "statement_timeout": f"{TRANSACTION_SECONDS:.0f}s",
    # None of our transactions waits for anything but the database: one that is idle has lost its process.
    "idle_in_transaction_session_timeout": "5s",
    "default_transaction_isolation": "read committed",
    "synchronous_commit": "on",  # a 2xx means committed, power cuts included; what waits for a standby, still does
    "search_path": "public",
    "TimeZone": "UTC",
    "DateStyle": "ISO",
}
POOLED = "pooled"  # in a connection's info: there is a pooler in between


def connect_arguments(url: sa.URL) -> dict[str, Any]:
    """What psycopg is given beside the URL: ours where the URL says nothing, and `options` of both."""
    own = [f"-c {name}={value.replace(' ', chr(92) + ' ')}" for name, value in SESSION.items()]
    options = " ".join([*own, _own_options(url)])  # of two, the last one counts
    return {**{name: value for name, value in CONNECT.items() if name not in url.query}, "options": options}


def _own_options(url: sa.URL) -> str:
    given = url.query.get("options", "")
    return given if isinstance(given, str) else " ".join(given)


def listen(engine: sa.Engine, watch: Watch, *, prepare_statements: bool) -> None:
    """Connect, and watch every connection of this engine."""
    refused: list[bool] = []  # whether there is a pooler that refuses `options`

    def connect(_dialect: object, _entry: object, _args: object, options: dict[str, Any]) -> Any:
        without = bool(refused)
        try:
            connection = psycopg.connect(**options | ({"options": _own_options(engine.url)} if without else {}))
        except psycopg.OperationalError as error:
            if without or "unsupported startup parameter" not in str(error):
                raise
            refused.append(True)
            return connect(_dialect, _entry, _args, options)
        watch.allow(connection, CONNECT_SECONDS)  # for SQLAlchemy's questions and for ours
        return connection

    def prepare(connection: Any, entry: ConnectionPoolEntry) -> None:
        pid = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
        connection.rollback()
        entry.info[POOLED] = pid != connection.info.backend_pid
        usable = prepare_statements and not entry.info[POOLED]
        connection.prepare_threshold = PREPARE_AFTER if usable else None
        watch.done(connection)

    def take(connection: Any, entry: ConnectionPoolEntry, _proxy: object) -> None:
        idle = watch.take(entry)
        if idle is None:
            raise sa.exc.DisconnectionError("The connection was closed, since nobody used it.")
        if idle >= IDLE_SECONDS:
            _ping(connection, watch)
        watch.allow(connection, TRANSACTION_SECONDS)

    def give_back(connection: Any | None, entry: ConnectionPoolEntry) -> None:
        if connection is not None:  # None: it broke
            watch.done(connection)
            watch.rest(entry)

    sa.event.listen(engine, "do_connect", connect)
    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "checkout", take)
    sa.event.listen(engine, "checkin", give_back)


def _ping(connection: Any, watch: Watch) -> None:
    """Ask a connection that was idle for a while whether it is still there; SQLAlchemy then makes new ones.

    Not each time: a round trip costs as much as a statement. One that broke within the second fails like any that
    breaks in use, and the pool forgets all that are older.
    """
    watch.allow(connection, PING_SECONDS)
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise sa.exc.InvalidatePoolError("The connection was closed while it was idle.") from error
