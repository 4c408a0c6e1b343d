"""Ports: find a free one, or name the process that has the one that is asked for (OPS-7)."""

import errno
import os
import socket
from pathlib import Path

from billing.errors import ConfigurationError

TRIED = 50  # ports after the preferred one, before any free one will do


def require_free(host: str, port: int, *, setting: str) -> None:
    """Raises ConfigurationError when no process can listen there now."""
    try:
        _bind(host, port)
    except OSError as error:
        raise ConfigurationError(_sentence(error, host, port, setting)) from None


def free_port(preferred: int, host: str = "127.0.0.1") -> int:
    """Give the preferred port, or the next free one. Low ports: outgoing connections do not take those."""
    for port in range(preferred, preferred + TRIED):
        try:
            return _bind(host, port)
        except OSError:
            continue
    return _bind(host, 0)


def holder(port: int) -> str | None:
    """Name the process that listens on a port, where the system shows it (Linux)."""
    wanted = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(handle) in wanted for handle in (process / "fd").iterdir()):
                name = (process / "comm").read_text("utf-8", "replace").strip()
                return f"{name} (process {process.name})"
        except OSError:
            continue  # it ended meanwhile, or is another user's
    return None


def _bind(host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: TIME_WAIT is free
        probe.bind((host, port))
        probe.listen(1)  # two sockets may bind with SO_REUSEADDR, only one may listen
        return int(probe.getsockname()[1])


def _sentence(error: OSError, host: str, port: int, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        who = holder(port) or "another program"
        return f"{setting} {port} is taken by {who}. Stop it, or set {setting} to a free port."
    if error.errno == errno.EACCES:
        return f"{setting} {port} needs more rights than this user has. Set {setting} to a port above 1023."
    return f"BIND {host} is no address of this machine. Set BIND to one, 127.0.0.1 say."


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            lines = table.read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for fields in map(str.split, lines):
            # local_address is HEXADDRESS:HEXPORT, state 0A is LISTEN
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                found.add(fields[9])
    return found


def address_here(bind: str, port: int) -> str:
    """Where a browser on this machine finds what listens there, such as `http://127.0.0.1:8000`."""
    host = "127.0.0.1" if bind in ("0.0.0.0", "::") else bind  # noqa: S104  # compared, not bound
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
