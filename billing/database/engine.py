"""One engine, transactions that are short, and errors in our own words.

`read()` and `write()` are the only ways in. A write transaction takes SQLite's lock at once (BEGIN
IMMEDIATE), so that it waits in line instead of failing half-way; PostgreSQL runs READ COMMITTED.
"""

import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from billing.errors import ConfigurationError, LedgerConflict, LedgerUnavailable

# 5 s: longer than any transaction of ours under load (p99 80 ms), shorter than a buyer's patience.
BUSY_SECONDS = 5
# 5 s: a process that froze within a transaction must not keep its rows from everybody else until it wakes.
FROZEN_MILLISECONDS = 5000
IDLE_SECONDS = 1.0  # a connection that nobody used for so long is asked whether it still is one
# PostgreSQL's serialization_failure and deadlock_detected: the transaction as a whole may be tried again.
CONFLICTS = frozenset({"40001", "40P01"})
# 3: a deadlock takes a second to be noticed, and whoever waits has a few seconds.
TRIES = 3

T = TypeVar("T")


class Database:
    """A SQLAlchemy engine behind two context managers."""

    def __init__(self, url: str, *, pool_size: int = 20) -> None:
        self.url = _with_driver(url)
        if self.url.get_backend_name() == "sqlite":
            _make_folder(self.url)
            # isolation_level None: the driver begins nothing by itself, _begin_sqlite does.
            options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS, "isolation_level": None}}
        else:
            # 1: to parse the claim of an event takes longer than to run it; a connection claims a few in a burst.
            options = {"connect_args": {"connect_timeout": 5, "prepare_threshold": 1}, "pool_timeout": 10}
        # hide_parameters: the driver's errors end up in logs, and rows hold addresses and emails.
        self.engine = sa.create_engine(
            self.url, pool_size=pool_size, max_overflow=pool_size, hide_parameters=True, **options
        )
        self._at_once = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite lets one writer in; who waits sleeps up to 100 ms a try. So the threads of a process stand in line.
        self._turn: AbstractContextManager[object] = threading.Lock() if self.is_sqlite else nullcontext()
        if self.is_sqlite:
            sa.event.listen(self.engine, "connect", _prepare_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(self.engine, "connect", _prepare_postgres)
            sa.event.listen(self.engine, "checkin", _note_use)
            sa.event.listen(self.engine, "checkout", _ping_idle)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (else PostgreSQL)."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that commits at the end of the block. Raises LedgerUnavailable."""
        with _own_errors(), self._turn, self.engine.begin() as connection:
            yield connection

    @contextmanager
    def autocommit(self) -> Iterator[sa.Connection]:
        """Open a connection for one statement of PostgreSQL, which commits by itself: one round trip in place of three.

        In SQLite, whose statements cost no round trip, the same as `write`. Raises LedgerUnavailable.
        """
        if self.is_sqlite:
            with self.write() as connection:
                yield connection
            return
        with _own_errors(), self._at_once.connect() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection for reading only: in SQLite one snapshot. Raises LedgerUnavailable.

        In PostgreSQL each statement sees what was committed before it, in a transaction or not. Without one, reading is
        one round trip in place of three.
        """
        with _own_errors(), self._at_once.connect() as connection:
            connection.execution_options(onelane_read_only=True)
            with connection.begin():
                yield connection

    def keep_wal(self) -> None:
        """Note in SQLite's file that it has a write-ahead log: once, before anybody else is there."""
        with _own_errors(), self.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]

    def close(self) -> None:
        """Close every connection (also after a fork, before the first use)."""
        self.engine.dispose()


def run_in_transaction(database: Database, work: Callable[[sa.Connection], T], *, once: bool = False) -> T:
    """Do this in a write transaction; all of it again, TRIES times at most, where another one was in its way (OPS-52).

    For what does nothing outside of the transaction; `once`: in one statement. Raises LedgerUnavailable.
    """
    for left in reversed(range(TRIES)):
        try:
            with database.autocommit() if once else database.write() as connection:
                return work(connection)
        except LedgerConflict:
            if not left:
                raise
            time.sleep(random.uniform(0.01, 0.05))  # noqa: S311  # jitter
    raise AssertionError("the last try returns or raises")


@contextmanager
def _own_errors() -> Iterator[None]:
    try:
        yield
    except (OperationalError, PoolTimeout) as error:
        if getattr(getattr(error, "orig", None), "sqlstate", None) in CONFLICTS:
            raise LedgerConflict("Another transaction was in the ledger's way. Try again.") from error
        raise LedgerUnavailable("The ledger's database did not answer. Try again.") from error
    except DBAPIError as error:
        if error.connection_invalidated:
            raise LedgerUnavailable("The ledger's database closed the connection. Try again.") from error
        raise


def _with_driver(url: str) -> sa.URL:
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError:
        raise ConfigurationError(
            "DATABASE_URL is not a database URL. Set it like postgresql://user@host/name."
        ) from None
    if parsed.drivername in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.get_backend_name() not in ("sqlite", "postgresql"):
        raise ConfigurationError(
            f"DATABASE_URL names {parsed.get_backend_name()}. Set it to a postgresql:// or sqlite:/// URL."
        )
    return parsed


def _make_folder(url: sa.URL) -> None:
    if not url.database or url.database == ":memory:":
        return
    file = Path(url.database)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"DATABASE_URL: the folder {file.parent} cannot be made ({error.strerror}). Set it to a file of yours."
        ) from None
    # SQLite writes beside the file, too; and root may write anywhere.
    if file.is_dir() or not os.access(file.parent, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        raise ConfigurationError(f"DATABASE_URL: {file} cannot be written. Set it to a file of yours.")


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # journal_mode is kept by the file and set once by the migrations: many threads setting it meet a lock.
    connection.execute("PRAGMA synchronous=FULL")  # a 2xx means committed, power cuts included
    connection.execute("PRAGMA foreign_keys=ON")
    # An INSERT of many rows notes how to take back a part of it: in memory, not in a file that every one makes anew.
    connection.execute("PRAGMA temp_store=MEMORY")


def _prepare_postgres(connection: Any, _record: object) -> None:
    # None of our transactions waits for anything but the database: one that is idle has lost its process.
    connection.execute(f"SET idle_in_transaction_session_timeout = {FROZEN_MILLISECONDS}")
    connection.commit()  # a SET that is rolled back was never set


def _note_use(_connection: object, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _ping_idle(connection: Any, record: Any, _proxy: object) -> None:
    """Ask a connection that was idle for a while whether it is still there; SQLAlchemy then makes a new one.

    Not each time: a round trip costs as much as a statement. One that broke within the second fails like any that
    breaks in use, and the pool forgets all that are older.
    """
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < IDLE_SECONDS:
        return
    try:
        connection.execute("")
        connection.rollback()
    except psycopg.Error as error:
        raise sa.exc.DisconnectionError("The connection was closed while it was idle.") from error


def _begin_sqlite(connection: sa.Connection) -> None:
    if connection.get_execution_options().get("onelane_read_only", False):
        connection.exec_driver_sql("BEGIN")
        return
    # SQLite's own waiting sleeps longer with each try, up to 0.1 s: while another process writes often, it comes too
    # late again and again, and so do all who stand in line behind it. Measured in a storm: 0.4 s, against 5 ms.
    plain = connection.connection.driver_connection
    assert plain is not None
    deadline = time.monotonic() + BUSY_SECONDS
    plain.execute("PRAGMA busy_timeout=0")
    try:
        while not _begin_now(plain) and time.monotonic() < deadline:
            time.sleep(random.uniform(0.0005, 0.0015))  # noqa: S311  # jitter
        if not plain.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a last try, whose error is SQLAlchemy's
    finally:
        plain.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")


def _begin_now(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True
