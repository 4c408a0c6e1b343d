"""What an error of the database's driver means: SQLSTATEs of PostgreSQL, result codes of SQLite, one table each.

PostgreSQL's errors while connecting carry no SQLSTATE, only text. So their reasons are found by words, and our
sentences never repeat the driver's: it may have a part of the password where it expects a host.
"""

from collections.abc import Mapping
from enum import StrEnum

import psycopg
import sqlalchemy as sa
from psycopg.errors import ConnectionTimeout

from billing.errors import LedgerConflict, LedgerMisconfigured, LedgerUnavailable


class Meaning(StrEnum):
    """What to do about an error."""

    CONFLICT = "conflict"  # another transaction was in the way: all of it again, at once, by the same connection
    BUSY = "busy"  # later, by the same connection
    TRANSIENT = "transient"  # later, by another connection
    WRONG_SERVER = "wrong server"  # later, and every connection of the pool leads to the wrong one
    MISCONFIGURED = "misconfigured"  # later, by another connection, once somebody has changed something
    BUG = "bug"  # ours: it goes through as it is


# Five characters are one SQLSTATE, two are a class. https://www.postgresql.org/docs/current/errcodes-appendix.html
STATES: Mapping[str, tuple[Meaning, str]] = {
    "40001": (Meaning.CONFLICT, "another transaction was in the way (serialization failure)"),
    "40P01": (Meaning.CONFLICT, "another transaction was in the way (deadlock)"),
    "55P03": (Meaning.BUSY, "another transaction held a lock for too long"),
    "08": (Meaning.TRANSIENT, "the connection failed"),
    "08P01": (Meaning.TRANSIENT, "a pooler gave up: is its pool large enough?"),
    "0A000": (Meaning.TRANSIENT, "a prepared statement was older than its table"),
    "25006": (Meaning.WRONG_SERVER, "the server is read-only: a standby, or a primary that became one"),
    "25P03": (Meaning.TRANSIENT, "the transaction was idle for too long"),
    "25P04": (Meaning.TRANSIENT, "the transaction took too long"),
    "26000": (Meaning.TRANSIENT, "a pooler changed the server between two statements"),
    "42P05": (Meaning.TRANSIENT, "a pooler changed the server between two statements"),
    "28": (Meaning.MISCONFIGURED, "the server refuses the user or the password"),
    "3D000": (Meaning.MISCONFIGURED, "the server has no database of that name"),
    "3F000": (Meaning.MISCONFIGURED, "the schema public does not exist"),
    "40": (Meaning.TRANSIENT, "the transaction was undone"),
    "42501": (Meaning.MISCONFIGURED, "the user lacks a privilege on the ledger's tables"),
    "42703": (Meaning.MISCONFIGURED, "a column is missing: run `onelane db upgrade`"),
    "42P01": (Meaning.MISCONFIGURED, "a table is missing: run `onelane db upgrade`"),
    "53": (Meaning.TRANSIENT, "the server is out of resources"),
    "53100": (Meaning.TRANSIENT, "the server's disk is full"),
    "53200": (Meaning.TRANSIENT, "the server is out of memory"),
    "53300": (Meaning.TRANSIENT, "the server has no free connection: see docs/connections.md"),
    "55": (Meaning.TRANSIENT, "the server is not ready for that"),
    "57": (Meaning.TRANSIENT, "somebody at the server intervened"),
    "57014": (Meaning.TRANSIENT, "the statement took too long"),
    "57P01": (Meaning.WRONG_SERVER, "the server ended the connection"),
    "57P02": (Meaning.WRONG_SERVER, "the server crashed"),
    "57P03": (Meaning.WRONG_SERVER, "the server is starting or stopping"),
    "57P04": (Meaning.MISCONFIGURED, "the database was dropped"),
    "58": (Meaning.TRANSIENT, "the server cannot read or write its files"),
    "F0": (Meaning.MISCONFIGURED, "the server's configuration is broken"),
    "XX": (Meaning.TRANSIENT, "the server or a pooler has an error of its own"),
}
# By the longest beginning. https://www.sqlite.org/rescode.html
CODES: Mapping[str, tuple[Meaning, str]] = {
    "SQLITE_BUSY": (Meaning.BUSY, "another process keeps the file locked"),
    "SQLITE_LOCKED": (Meaning.BUSY, "another connection keeps a table locked"),
    "SQLITE_PROTOCOL": (Meaning.BUSY, "another process keeps the file locked"),
    "SQLITE_INTERRUPT": (Meaning.BUSY, "the statement was interrupted"),
    "SQLITE_FULL": (Meaning.BUSY, "the disk is full"),
    "SQLITE_NOMEM": (Meaning.BUSY, "there is no memory"),
    "SQLITE_IOERR": (Meaning.TRANSIENT, "the disk cannot be read or written"),
    "SQLITE_READONLY_DBMOVED": (Meaning.WRONG_SERVER, "the file was moved or replaced"),
    "SQLITE_READONLY": (Meaning.MISCONFIGURED, "the file is read-only"),
    "SQLITE_CANTOPEN": (Meaning.MISCONFIGURED, "the file cannot be opened"),
    "SQLITE_PERM": (Meaning.MISCONFIGURED, "the file must not be read"),
    "SQLITE_CORRUPT": (Meaning.MISCONFIGURED, "the file is damaged: put a backup in its place"),
    "SQLITE_NOTADB": (Meaning.MISCONFIGURED, "the file is no SQLite database"),
}
BAD_VALUE = "bad value for"  # psycopg's own, of a ProgrammingError
# The driver's or the server's words, while connecting; the first that fits. {…}: of DATABASE_URL.
REFUSALS: tuple[tuple[tuple[str, ...], Meaning, str], ...] = (
    (
        ("invalid sslmode", "invalid value", "invalid integer", "invalid target_session", " value: ", BAD_VALUE),
        Meaning.MISCONFIGURED,
        "a parameter of the URL has a value that makes no sense",
    ),
    (
        ("read-only", "hot standby"),
        Meaning.WRONG_SERVER,
        "no server there takes writes",
    ),
    (
        ("too many clients", "too many connections", "connection slots are reserved", "no more connections allowed"),
        Meaning.TRANSIENT,
        "the server has no free connection: see docs/connections.md",
    ),
    (("starting up", "shutting down", "recovery"), Meaning.TRANSIENT, "the server is starting or stopping"),
    (("unsupported startup parameter",), Meaning.MISCONFIGURED, "a pooler refuses a parameter of the URL"),
    (
        ("password authentication failed", "no password supplied", "SASL authentication failed", "auth failed"),
        Meaning.MISCONFIGURED,
        "the server refuses the password of the user {user}, or does not know that user",
    ),
    (("role ", "no such user"), Meaning.MISCONFIGURED, "the server does not know the user {user}"),
    (("no such database",), Meaning.MISCONFIGURED, "the server has no database {name}"),
    (
        ("pg_hba.conf", "authentication failed"),
        Meaning.MISCONFIGURED,
        "the server does not let the user {user} in from here, or only with TLS (pg_hba.conf)",
    ),
    (("does not support SSL",), Meaning.MISCONFIGURED, "the server does not speak TLS, and sslmode asks for it"),
    (
        ("certificate", "SSL error", "SSL SYSCALL"),
        Meaning.MISCONFIGURED,
        "TLS: the server's certificate or the URL's sslmode and sslrootcert do not fit",
    ),
    (("permission denied for database", "CONNECT privilege"), Meaning.MISCONFIGURED, "{user} may not use {name}"),
    (("database ",), Meaning.MISCONFIGURED, "the server has no database {name}"),
    (("translate host", "resolve host", "Name or service"), Meaning.TRANSIENT, "nobody knows the host {host}"),
    (("refused", "No such file"), Meaning.TRANSIENT, "nobody listens at {host}, port {port}"),
    (("timeout", "timed out"), Meaning.TRANSIENT, "{host}, port {port}, does not answer in time"),
    (("unreachable", "No route"), Meaning.TRANSIENT, "no way leads to {host}"),
)


def judge(error: BaseException | None) -> Meaning:
    """What an error of psycopg or sqlite3 means."""
    return _look_up(error)[0]


def translate(error: sa.exc.DBAPIError, url: sa.URL) -> Exception:
    """Our own error for the driver's; the same one where it is a bug of ours. `url` is the ledger's."""
    found, reason = _look_up(error.orig)
    if found is Meaning.BUG and not error.connection_invalidated:
        return error
    reason = f"DATABASE_URL: {_filled(reason, url)}."
    if found is Meaning.CONFLICT:
        return LedgerConflict("Another transaction was in the ledger's way. Try again.", reason=reason)
    if found is Meaning.MISCONFIGURED:
        return LedgerMisconfigured("The ledger's database is not set up correctly.", reason=reason)
    return LedgerUnavailable("The ledger's database did not answer. Try again.", reason=reason)


def _look_up(error: BaseException | None) -> tuple[Meaning, str]:
    state = getattr(error, "sqlstate", None)
    if "statement pooling mode" in str(error):
        return Meaning.MISCONFIGURED, "the pooler allows no transactions: set pool_mode = transaction"
    if state:
        return STATES.get(state) or STATES.get(state[:2]) or (Meaning.BUG, "")
    code = getattr(error, "sqlite_errorname", None)
    if code:
        return _sqlite(str(code), str(error))
    if isinstance(error, ConnectionTimeout):
        return Meaning.TRANSIENT, "{host}, port {port}, does not answer in time"
    if isinstance(error, psycopg.OperationalError) or BAD_VALUE in str(error):
        words = str(error)
        for signs, found, reason in REFUSALS:
            if any(sign in words for sign in signs):
                return found, reason
        return Meaning.TRANSIENT, "the server closed the connection or does not answer"
    return Meaning.BUG, "the connection was closed"


def _sqlite(code: str, words: str) -> tuple[Meaning, str]:
    if "no such table" in words or "no such column" in words or "has no column" in words:
        return Meaning.MISCONFIGURED, "a table or column is missing: run `onelane db upgrade`"
    fitting = [name for name in CODES if code.startswith(name)]
    return CODES[max(fitting, key=len)] if fitting else (Meaning.BUG, "")


def _filled(reason: str, url: sa.URL) -> str:
    return reason.format(
        user=url.username or "(the system's)",
        name=url.database or "(the user's)",
        host=url.host or "the local socket",
        port=url.port or 5432,
    )
