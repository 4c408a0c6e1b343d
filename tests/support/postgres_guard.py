"""`python postgres_guard.py FOLDER`: stops the PostgreSQL whose files are there once its starter is gone or lets go.

It waits for the end of its standard input, which comes when the starter closes it and when the starter is killed.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path


def main(folder: Path) -> None:
    """Wait, stop the server at once, and remove its files."""
    sys.stdin.read()
    with suppress(FileNotFoundError, ProcessLookupError, IndexError):
        postmaster = int((folder / "postmaster.pid").read_text("utf-8").split()[0])
        os.kill(postmaster, signal.SIGQUIT)
        while True:  # until init has reaped it
            os.kill(postmaster, 0)
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
