"""Debian's nginx for tests, in a folder of its own: as it stands before a web."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from socket import create_connection

from billing.process.run_with_parent import launched
from tests.support.ports import own_port
from tests.support.redis_server import require
from tests.support.valkey import wait_until

CONFIGURATION = """
{user}
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/bodies;
    proxy_temp_path {folder}/answers;
    fastcgi_temp_path {folder}/a;
    uwsgi_temp_path {folder}/b;
    scgi_temp_path {folder}/c;
    upstream web {{
        server 127.0.0.1:{web};
        keepalive 64;
        keepalive_timeout {idle_seconds}s;
    }}
    server {{
        listen 127.0.0.1:{port};
        location {prefix}/ {{
            proxy_pass http://web/;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Prefix {prefix};
        }}
    }}
}}
"""


@contextmanager
def nginx(folder: Path, *, web: int, prefix: str, idle_seconds: int) -> Iterator[int]:
    """One before the web on this port; its own port. It keeps connections to the web for `idle_seconds`."""
    program, port = require("nginx"), own_port()
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""
    given = {"folder": folder, "web": web, "port": port, "prefix": prefix, "idle_seconds": idle_seconds}
    (folder / "nginx.conf").write_text(CONFIGURATION.format(user=user, **given), "utf-8")
    command = launched([program, "-p", str(folder), "-e", str(folder / "log"), "-c", str(folder / "nginx.conf")])
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)

    def listens() -> bool:
        assert process.poll() is None, (folder / "log").read_text("utf-8")
        with suppress(OSError), create_connection(("127.0.0.1", port), 1):
            return True
        return False

    try:
        wait_until(listens, "nginx listens")
        yield port
    finally:
        process.terminate()  # so that it takes its workers along
        process.wait(20)
