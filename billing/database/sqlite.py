"""SQLite: one file of this machine, of its owner only, which one process at a time may write.

A write transaction takes the lock at once (BEGIN IMMEDIATE), so that it waits in line instead of failing half-way.
"""

import os
import random
import sqlite3
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.errors import ConfigurationError, LedgerUnavailable

# 5 s: longer than any transaction of ours under load (p99 80 ms), shorter than a buyer's patience.
BUSY_SECONDS = 5
OWNER_ONLY = 0o600
# isolation_level None: the driver begins nothing by itself, `begin` does.
CONNECT: dict[str, Any] = {"timeout": BUSY_SECONDS, "isolation_level": None}
FILE = "file"  # in a connection's info: which file it has open


def make_folder(url: sa.URL) -> None:
    """Make the folder of the file. Raises ConfigurationError where it, or the file, cannot be written."""
    file = _file(url)
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"DATABASE_URL: the folder {file.parent} cannot be made ({error.strerror}). Set it to a file of yours."
        ) from None
    # SQLite writes beside the file, too; and root may write anywhere.
    if file.is_dir() or not os.access(file.parent, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        raise ConfigurationError(f"DATABASE_URL: {file} cannot be written. Set it to a file of yours.")


def listen(engine: sa.Engine) -> None:
    """Prepare every connection of this engine, and begin its transactions."""
    file = _file(engine.url)

    def make(*_: object) -> None:
        if file is not None and not file.exists():  # what SQLite makes beside it has the same rights
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, OWNER_ONLY))

    def prepare(connection: sqlite3.Connection, entry: Any) -> None:
        # journal_mode is kept by the file and set once by the migrations: many threads setting it meet a lock.
        connection.execute("PRAGMA synchronous=FULL")  # a 2xx means committed, power cuts included
        connection.execute("PRAGMA foreign_keys=ON")
        # An INSERT of many rows notes how to take back a part of it: in memory, not in a new file each time.
        connection.execute("PRAGMA temp_store=MEMORY")
        entry.info[FILE] = _identity(file)

    def begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("onelane_read_only", False):
            connection.exec_driver_sql("BEGIN")
            return
        # SQLite goes on writing into a file that was moved away or deleted: a 2xx whose event nobody finds again.
        if connection.info.get(FILE) != _identity(file):
            connection.invalidate()
            raise LedgerUnavailable(
                "The ledger's database did not answer. Try again.",
                reason=f"DATABASE_URL: {file} was moved or replaced while it was open.",
            )
        _begin(connection)

    def let_go(connection: sqlite3.Connection, *_: object) -> None:
        # To close it does not end its transaction while a cursor of it is alive somewhere, such as in a traceback.
        with suppress(sqlite3.Error):
            connection.rollback()

    sa.event.listen(engine, "invalidate", let_go)
    sa.event.listen(engine, "do_connect", make)
    sa.event.listen(engine, "connect", prepare)
    sa.event.listen(engine, "begin", begin)


def protect(url: sa.URL) -> None:
    """Keep everybody but the owner from reading a file that an earlier version made."""
    file = _file(url)
    for path in () if file is None else (file, *(file.with_name(file.name + end) for end in ("-wal", "-shm"))):
        if path.exists() and path.stat().st_uid == os.geteuid():
            path.chmod(OWNER_ONLY)


def _file(url: sa.URL) -> Path | None:
    return None if not url.database or url.database == ":memory:" else Path(url.database)


def _identity(file: Path | None) -> tuple[int, int] | None:
    try:
        found = os.stat(file) if file is not None else None
    except FileNotFoundError:
        return (0, 0)
    return (found.st_dev, found.st_ino) if found else None


def _begin(connection: sa.Connection) -> None:
    # SQLite's own waiting sleeps longer with each try, up to 0.1 s: while another process writes often, it comes too
    # late again and again, and so do all who stand in line behind it. Measured in a storm: 0.4 s, against 5 ms.
    plain = connection.connection.driver_connection
    assert plain is not None
    began = time.monotonic()
    plain.execute("PRAGMA busy_timeout=0")
    try:
        while _is_busy(plain) and (waited := time.monotonic() - began) < BUSY_SECONDS:
            time.sleep(pause_seconds(waited))
        if not plain.in_transaction:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # a last try, whose error is SQLAlchemy's
    finally:
        with suppress(sqlite3.ProgrammingError):  # closed, after an error that leaves no hope
            plain.execute(f"PRAGMA busy_timeout={BUSY_SECONDS * 1000}")


def pause_seconds(waited: float) -> float:
    """Seconds to pause before the next try: some 1 ms, and less the longer it has been waited for. So nobody starves.

    Four processes that write without a pause, and one that writes at times: of its waits the longest was 0.9 s when all
    paused alike, and is 0.2 s.
    """
    return max(0.0001, random.uniform(0.0005, 0.0015) / (1 + waited / 0.02))  # noqa: S311  # jitter


def _is_busy(connection: sqlite3.Connection) -> bool:
    """Begin, unless the file is locked just now."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        return error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
    return False
