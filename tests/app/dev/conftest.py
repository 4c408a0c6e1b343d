"""`onelane dev` for a test, stopped however the test ends."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.running_dev import Dev

Start = Callable[..., Dev]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start one in a folder, on a port, with these settings."""
    started: list[Dev] = []

    def begin(folder: Path, port: int, **settings: str) -> Dev:
        started.append(Dev(folder, port, **settings))
        return started[-1]

    yield begin
    for dev in started:
        if dev.process.poll() is None:
            dev.terminate()
