"""A real Valkey for each test and workers as real processes on it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from billing.coordination.queue import CeleryQueue, create_producer
from billing.process.run_with_parent import launched
from billing.process.settings import Settings
from tests.support.valkey import Valkey, running_valkey, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    with running_valkey(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def client(valkey: Valkey) -> Iterator["redis.Redis"]:
    with redis.Redis.from_url(valkey.url) as connection:
        yield connection


@pytest.fixture
def queue(valkey: Valkey, client: "redis.Redis") -> Iterator[CeleryQueue]:
    celery = create_producer(Settings(redis_url=valkey.url, _env_file=None))
    yield CeleryQueue(celery, client)
    celery.close()


class Worker:
    """One worker process and what its tasks noted."""

    def __init__(self, url: str, folder: Path, *, concurrency: int) -> None:
        folder.mkdir(exist_ok=True)
        self._notes, self._alive, self._log = folder / "notes", folder / "alive", folder / "log"
        self._alive.unlink(missing_ok=True)
        environment = {**os.environ, "REDIS_URL": url, "DATABASE_URL": f"sqlite:///{folder}/ledger"}
        environment.pop("ONELANE_LOG", None)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                launched(
                    [
                        sys.executable,
                        "-m",
                        "tests.worker.consumer",
                        str(self._notes),
                        str(concurrency),
                        str(self._alive),
                    ]
                ),
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )

    def begun(self) -> "Worker":
        wait_until(lambda: self._alive.exists() or self.process.poll() is not None, "the worker is ready")
        assert self.process.poll() is None, self.log
        return self

    @property
    def log(self) -> str:
        return self._log.read_text("utf-8")

    def noted(self, word: str) -> list[int]:
        """The row ids of the notes with this word, in order."""
        if not self._notes.exists():
            return []
        lines = [line.split() for line in self._notes.read_text("utf-8").splitlines()]
        return [int(row_id) for _time, noted, _kind, row_id in lines if noted == word]

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)


@pytest.fixture
def start_worker(valkey: Valkey, tmp_path: Path) -> Iterator[Callable[..., Worker]]:
    started: list[Worker] = []

    def start(*, concurrency: int = 4) -> Worker:
        started.append(Worker(valkey.url, tmp_path / "worker", concurrency=concurrency))
        return started[-1].begun()

    yield start
    for worker in started:
        with suppress(ProcessLookupError):
            worker.process.kill()
        worker.process.wait()
