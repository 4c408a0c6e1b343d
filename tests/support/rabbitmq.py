"""Debian's RabbitMQ for tests, in a folder and with a port mapper of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from billing.process.run_with_parent import launched
from tests.support.databases import absent
from tests.support.ports import own_port
from tests.support.valkey import wait_until

FOLDER = Path("/usr/lib/rabbitmq/bin")


class RabbitMQ:
    """The server."""

    def __init__(self, folder: Path) -> None:
        self.port = own_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}//"
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "ERL_EPMD_PORT": str(own_port()),
            "RABBITMQ_NODENAME": f"test{os.getpid()}@localhost",
            "RABBITMQ_MNESIA_BASE": str(folder),
            "RABBITMQ_LOG_BASE": str(folder),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(own_port()),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
        }
        (folder / "plugins").write_text("[].\n", "utf-8")
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                launched([str(FOLDER / "rabbitmq-server")]), env=self._environment, stdout=output, stderr=output
            )
        wait_until(self._answers, "RabbitMQ answers", seconds=120)

    def control(self, *words: str) -> int:
        """`rabbitmqctl`, and its exit code."""
        command = [str(FOLDER / "rabbitmqctl"), *words]
        return subprocess.run(command, env=self._environment, capture_output=True, timeout=60).returncode

    def stop(self) -> None:
        """Stop it, and the port mapper that it started."""
        self._process.terminate()
        self._process.wait(60)
        subprocess.run(["epmd", "-kill"], env=self._environment, capture_output=True)

    def _answers(self) -> bool:
        assert self._process.poll() is None, "it ended"
        return self.control("await_startup", "--timeout", "20") == 0


@contextmanager
def running_rabbitmq(folder: Path) -> Iterator[RabbitMQ]:
    """A server for the block. A skip where it is not installed, a failure in CI."""
    if not (FOLDER / "rabbitmq-server").exists() or not shutil.which("epmd"):
        absent("RabbitMQ is not installed: this test needs Debian's")
    folder.mkdir(parents=True, exist_ok=True)
    server = RabbitMQ(folder)
    try:
        yield server
    finally:
        server.stop()
