"""One engine, transactions that are short and have an end, and errors in our own words.

`read()` and `write()` are the only ways in. What SQLite and PostgreSQL need stands in `sqlite.py` and `postgres.py`.
"""

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from billing.database import postgres, sqlite
from billing.database.address import read_url
from billing.database.driver_errors import Meaning, judge, translate
from billing.database.watch import Watch
from billing.errors import LedgerConflict, LedgerUnavailable

# For one process. README's topology has two of the web and two workers; see docs/connections.md.
POOL_SIZE = 10
# 3: a deadlock takes a second to be noticed, and whoever waits has a few seconds.
TRIES = 3
# After an error of these kinds the connection serves again.
GOOD = (Meaning.CONFLICT, Meaning.BUSY, Meaning.BUG)

T = TypeVar("T")


class Database:
    """A SQLAlchemy engine behind two context managers."""

    def __init__(self, url: str, *, pool_size: int = POOL_SIZE, prepare_statements: bool = True) -> None:
        """`prepare_statements`: not behind a pooler that is not recognised as one. Raises ConfigurationError."""
        self.url, self.pool_size = read_url(url), pool_size
        self._watch = Watch()
        if self.is_sqlite:
            sqlite.make_folder(self.url)
            # Twice: a file costs nobody a place.
            options: dict[str, Any] = {"connect_args": sqlite.CONNECT, "max_overflow": pool_size}
        else:
            # LIFO: what is not needed comes to lie at the bottom, and is closed there.
            options = {"max_overflow": 0, "pool_timeout": postgres.POOL_SECONDS, "pool_use_lifo": True}
            options |= {"connect_args": postgres.connect_arguments(self.url), "isolation_level": "READ COMMITTED"}
        # hide_parameters: the driver's errors end up in logs, and rows hold addresses and emails.
        # As UTF-8: escaped, a letter has up to six times as many bytes in SQLite.
        options |= {"json_serializer": partial(json.dumps, ensure_ascii=False)}
        self.engine = sa.create_engine(self.url, pool_size=pool_size, hide_parameters=True, **options)
        self._at_once = self.engine if self.is_sqlite else self.engine.execution_options(isolation_level="AUTOCOMMIT")
        # SQLite lets one writer in; who waits sleeps up to 100 ms a try. So the threads of a process stand in line.
        self._turn: AbstractContextManager[object] = threading.Lock() if self.is_sqlite else nullcontext()
        sa.event.listen(self.engine, "handle_error", _drop_connection)
        if self.is_sqlite:
            sqlite.listen(self.engine)
        else:
            postgres.listen(self.engine, self._watch, prepare_statements=prepare_statements)

    @property
    def is_sqlite(self) -> bool:
        """Whether this is SQLite (else PostgreSQL)."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """Open a transaction that commits at the end of the block. Raises LedgerUnavailable."""
        with self._own_errors(), self._turn, self.engine.begin() as connection:
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
        with self._own_errors(), self._at_once.connect() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """Open a connection for reading only: in SQLite one snapshot. Raises LedgerUnavailable.

        In PostgreSQL each statement sees what was committed before it, in a transaction or not. Without one, reading is
        one round trip in place of three.
        """
        with self._own_errors(), self._at_once.connect() as connection:
            connection.execution_options(onelane_read_only=True)
            with connection.begin():
                yield connection

    def allow(self, connection: sa.Connection, seconds: float | None) -> None:
        """Let this transaction take so long from now on; None: as long as it takes. Then its connection is dropped."""
        if self.is_sqlite:
            return  # who waits there, waits BUSY_SECONDS at the most
        if seconds is None:
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        self._watch.allow(connection.connection.driver_connection, seconds)  # type: ignore[arg-type]

    def keep_wal(self) -> None:
        """Note in SQLite's file that it has a write-ahead log: once, before anybody else is there."""
        with self._own_errors(), self.engine.connect() as connection:
            connection.connection.driver_connection.execute("PRAGMA journal_mode=WAL")  # type: ignore[union-attr]
        sqlite.protect(self.url)

    def close(self) -> None:
        """Close every connection (also after a fork, before the first use)."""
        self.engine.dispose()

    @contextmanager
    def _own_errors(self) -> Iterator[None]:
        try:
            yield
        except PoolTimeout as error:
            reason = "All connections of this process are in use. Set DATABASE_POOL_SIZE as docs/connections.md says."
            raise LedgerUnavailable("The ledger has no free connection. Try again.", reason=reason) from error
        except DBAPIError as error:
            found = translate(error, self.url)
            if found is error:
                raise
            raise found from error


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


def _drop_connection(context: sa.engine.ExceptionContext) -> None:
    """Drop the connection that has such an error; where the error shows that it leads nowhere good, all of the pool."""
    found = judge(context.original_exception)
    lost = context.is_disconnect
    context.is_disconnect = lost or found not in GOOD
    context.invalidate_pool_on_disconnect = lost or found is Meaning.WRONG_SERVER
