"""A PgBouncer in front of a test's PostgreSQL, where it is installed (`apt install pgbouncer`)."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

from billing.process.run_with_parent import launched
from tests.support.databases import absent
from tests.support.ports import own_port
from tests.support.valkey import wait_until

BINARY = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"


@contextmanager
def pgbouncer(url: sa.URL, **settings: str | int) -> Iterator[sa.URL]:
    """Run one with these settings; the URL by way of it. A skip where there is none."""
    if not Path(BINARY).exists():
        absent("PgBouncer is not installed: apt install pgbouncer")
    port = own_port()
    with tempfile.TemporaryDirectory(prefix="onelane-pgbouncer-") as name:
        folder = Path(name)
        own = {"listen_addr": "127.0.0.1", "listen_port": port, "auth_type": "any", "unix_socket_dir": ""}
        lines = [f"{key} = {value}" for key, value in (own | settings).items()]
        to = f"* = host={url.query['host']} user={url.username}"
        (folder / "pgbouncer.ini").write_text("\n".join(["[databases]", to, "[pgbouncer]", *lines]), "utf-8")
        owner = pwd.getpwuid(Path(str(url.query["host"])).stat().st_uid).pw_name  # who may use the server's socket
        as_owner = ["-u", owner] if os.geteuid() == 0 else []  # root it refuses to be
        folder.chmod(0o755)
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(launched([BINARY, *as_owner, str(folder / "pgbouncer.ini")]), stderr=log)
        try:
            said = (folder / "log").read_text
            wait_until(lambda: "process up" in said("utf-8") or process.poll() is not None, "PgBouncer is up")
            assert process.poll() is None, said("utf-8")
            yield url.set(host="127.0.0.1", port=port).difference_update_query(["host"])
        finally:
            process.kill()
            process.wait()
