"""A real Valkey for tests, which can be killed and started again on its data, and waiting with a deadline."""

import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from app.dev.embedded import prepare_valkey, valkey_answers
from billing.process.run_with_parent import launched
from tests.support.ports import own_port


def wait_until(condition: Callable[[], bool], what: str, seconds: float = 15) -> None:
    """Wait for something that other processes bring about."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.02)


class Valkey:
    """The server."""

    def __init__(self, folder: Path) -> None:
        self.port = own_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Start it, on the data that it left."""
        self._process = subprocess.Popen(
            launched(prepare_valkey(self._folder, port=self.port)), stdout=subprocess.DEVNULL
        )
        wait_until(lambda: valkey_answers(self.port), "Valkey answers")

    def signal(self, number: int) -> None:
        """SIGSTOP lets it hang, SIGCONT go on."""
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL."""
        self._process.kill()
        self._process.wait()

    def forget(self) -> None:
        """Remove its data, once it was killed."""
        shutil.rmtree(self._folder)


@contextmanager
def running_valkey(folder: Path) -> Iterator[Valkey]:
    """A server for the block."""
    server = Valkey(folder)
    try:
        yield server
    finally:
        server.kill()
