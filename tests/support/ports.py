"""Ports for what a test starts: no two tests get the same one, also in other processes of the run."""

import fcntl
import os
import tempfile
from pathlib import Path

from app.dev.ports import require_free
from billing.errors import ConfigurationError

FIRST, LAST = 18_000, 30_000  # below those that the kernel gives to outgoing connections
_taken: list[int] = []  # the locks, held until this process ends


def own_port() -> int:
    """A port that is free and stays this process's own.

    Free at this moment is not enough: granian shares a port with whoever asks for it, so two servers that were
    started at the same time answered each other's requests.
    """
    locks = Path(tempfile.gettempdir()) / f"onelane-test-ports-{os.getuid()}"
    locks.mkdir(exist_ok=True)
    for port in range(FIRST, LAST):
        lock = os.open(locks / str(port), os.O_CREAT | os.O_RDWR)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            require_free("127.0.0.1", port, setting="PORT")
        except (BlockingIOError, ConfigurationError):
            os.close(lock)
            continue
        _taken.append(lock)
        return port
    raise RuntimeError(f"no port from {FIRST} to {LAST} is free")
