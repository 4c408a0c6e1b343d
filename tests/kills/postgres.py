"""A PostgreSQL of a test's own, which can be killed at any moment and started again on its data."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from tests.support.databases import guarded_folder, postgres_server
from tests.support.valkey import wait_until


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

    @contextmanager
    def backup(self) -> Iterator[Callable[[], None]]:
        """Copy its files now; what is given puts them back. Each takes a kill, as nothing else stops it."""
        data: Path = self._server.pgdata
        with tempfile.TemporaryDirectory(prefix="onelane-backup-") as folder:
            self.kill()
            subprocess.run(["cp", "-a", f"{data}/.", folder], check=True)
            self.start()

            def put_back() -> None:
                self.kill()
                for path in data.iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                subprocess.run(["cp", "-a", f"{folder}/.", data], check=True)
                self.start()

            yield put_back

    @property
    def plain_url(self) -> str:
        """Its address as libpq writes it."""
        return str(self._server.get_uri())

    @property
    def logs(self) -> list[Path]:
        """What it wrote."""
        return [path for path in self._server.pgdata.glob("log*") if path.is_file()]

    @property
    def socket(self) -> str:
        """The path of its socket."""
        return f"{self._server.pgdata}/.s.PGSQL.5432"

    @contextmanager
    def standby(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """A hot standby, replicating: the path of its socket, and what makes it the primary."""
        with guarded_folder("onelane-standby-") as folder:
            if self._server.system_user:
                shutil.chown(folder, self._server.system_user)
            source = ["-h", str(self._server.pgdata), "-U", "postgres"]
            self._command("pg_basebackup", *source, "-D", str(folder), "-R", "-X", "stream", "--checkpoint=fast")
            for copied in ("log", ".s.PGSQL.5432.lock"):  # the primary's, which lie among its data here
                (folder / copied).unlink(missing_ok=True)
            self._command("pg_ctl", "-w", "-D", str(folder), "-o", f'-h "" -k {folder}', "-l", f"{folder}/log", "start")
            yield f"{folder}/.s.PGSQL.5432", lambda: self._command("pg_ctl", "-w", "-D", str(folder), "promote")

    def _command(self, name: str, *arguments: str) -> None:
        """Run one of the wheel's programs. Its output is no pipe: a server that it starts would keep it open."""
        command = [str(self._server.bin_path / name), *arguments]
        subprocess.run(command, check=True, user=self._server.system_user, stdout=subprocess.DEVNULL, timeout=60)

    @contextmanager
    def small_disk(self, table: str) -> Iterator[tuple[str, Callable[[], None], Callable[[], None]]]:
        """Keep a table on a disk of its own, of 16 MB: its kind, what fills it, and what makes room again.

        Mounting one takes root's rights. Elsewhere a trigger raises what PostgreSQL raises then, SQLSTATE 53100.
        """
        folder = Path(tempfile.mkdtemp(prefix="onelane-disk-"))
        mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "none", str(folder)]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
            folder.rmdir()
            yield "a trigger", lambda: self._run(*FULL), lambda: self._run("DROP TRIGGER no_room ON events")
            return
        try:
            os.chown(folder, self._server.pgdata.stat().st_uid, -1)
            self._run(f"CREATE TABLESPACE small LOCATION '{folder}'", f"ALTER TABLE {table} SET TABLESPACE small")
            try:
                yield "16 MB", lambda: _fill(folder / "filler"), (folder / "filler").unlink
            finally:
                (folder / "filler").unlink(missing_ok=True)
                self._run(f"ALTER TABLE {table} SET TABLESPACE pg_default", "CHECKPOINT", "DROP TABLESPACE small")
        finally:
            subprocess.run(["umount", "--lazy", str(folder)], check=True)
            folder.rmdir()

    def _run(self, *statements: str) -> None:
        with self.database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)

    def _answers(self) -> bool:
        try:
            with self.database.engine.connect() as connection:
                return bool(connection.scalar(sa.text("SELECT 1")) == 1)
        except sa.exc.OperationalError:
            return False


FULL = (
    "CREATE OR REPLACE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql"
    " AS $$ BEGIN RAISE 'could not extend file' USING ERRCODE = '53100'; END $$",
    "CREATE TRIGGER no_room BEFORE INSERT ON events EXECUTE FUNCTION no_room()",
)


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while file.write(bytes(4096)):
            pass


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def killable_postgres() -> Iterator[KillablePostgres]:
    """A server for the block, or a skip where none can be started."""
    with postgres_server() as server:
        postgres = KillablePostgres(server)
        try:
            yield postgres
        finally:
            postgres.database.close()
