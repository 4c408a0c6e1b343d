"""A crowd: a thousand requests of one buyer at once while a hundred others come at their usual pace, over HTTP.

The others are paced the same with and without the storm, and each is followed to their payment page. The storm is sent
by a process of its own that gives way to everybody (`nice`): its client is somebody else's machine, and what it takes
to write and read a thousand requests is none of what is measured.
"""

import asyncio
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from typing import Any

from billing.process.run_with_parent import run_with_parent

Json = dict[str, Any]
LONGEST_SECONDS = 60
GIVES_WAY = 10


@dataclass(frozen=True, slots=True)
class Visit:
    """A buyer's way to the payment page: the first answer's status, the last one's body, and how long it took."""

    status: int
    body: Json
    seconds: float


def request(port: int, token: str, method: str, path: str, body: Json | None = None, prefer: str = "") -> bytes:
    """The bytes of one request."""
    data = b"" if body is None else json.dumps(body).encode()
    head = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", f"Authorization: Bearer {token}"]
    head += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    head += [f"Prefer: {prefer}"] if prefer else []
    return ("\r\n".join(head) + "\r\n\r\n").encode() + data


class Window:
    """One kept-alive connection of one buyer. Speaks just enough HTTP for our own servers."""

    def __init__(self, port: int, token: str) -> None:
        self._port, self._token = port, token

    async def open(self) -> "Window":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def ask(self, method: str, path: str, body: Json | None = None, prefer: str = "") -> tuple[int, Json, str]:
        """One request: status, body and Location."""
        return await self.send(request(self._port, self._token, method, path, body, prefer))

    async def send(self, whole: bytes) -> tuple[int, Json, str]:
        """A request that is written already."""
        self._writer.write(whole)
        answered = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in answered[1:])}
        read = await self._reader.readexactly(int(headers["content-length"]))
        return int(answered[0].split()[1]), json.loads(read), headers.get("location", "")

    async def buy(self, order: Json) -> Visit:
        """Ask for a checkout until there is a payment page."""
        started = time.monotonic()
        status, body, location = await self.ask("POST", "/v1/checkouts", order)
        while body.get("status") == "pending":
            _, body, _ = await self.ask("GET", location, prefer="wait=20")
        return Visit(status, body, time.monotonic() - started)

    async def knock(self, asked: bytes) -> Visit:
        """Ask once, in bytes that are there already, and take what comes."""
        started = time.monotonic()
        status, body, _ = await self.send(asked)
        return Visit(status, body, time.monotonic() - started)

    async def close(self) -> None:
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()


@dataclass(frozen=True, slots=True)
class Phase:
    """What became of the others, and of the storm if there was one."""

    others: list[Visit]
    storm: list[Visit]
    storm_seconds: float


def run_phase(
    port: int, order: Json, *, others: Sequence[str], every_seconds: float, hot: str = "", storm: int = 0
) -> Phase:
    """One buyer of `others` (their tokens) comes `every_seconds`; a fifth of the way, `storm` requests of `hot`."""
    return asyncio.run(asyncio.wait_for(_phase(port, order, others, every_seconds, [hot] * storm), LONGEST_SECONDS))


def _give_way() -> None:
    os.nice(GIVES_WAY)
    run_with_parent(os.getppid())


async def _phase(port: int, order: Json, others: Sequence[str], every: float, hot: Sequence[str]) -> Phase:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_give_way) as apart:
        await asyncio.wrap_future(apart.submit(os.getpid))  # it has started
        windows = [await Window(port, token).open() for token in others]

        async def come(number: int, window: Window) -> Visit:
            await asyncio.sleep(number * every)
            return await window.buy(order)

        asked = request(port, hot[0], "POST", "/v1/checkouts", order) if hot else b""  # written once: it is the same
        storm = apart.submit(_blow, port, asked, len(hot), time.time() + len(others) * every / 5)
        came = await asyncio.gather(*(come(*each) for each in enumerate(windows)))
        visits, seconds = await asyncio.wrap_future(storm)
        for window in windows:
            await window.close()
    return Phase(came, visits, seconds)


def _blow(port: int, asked: bytes, count: int, at: float) -> tuple[list[Visit], float]:
    """The storm, at that time: so many times the same request, each on a connection that is open already."""

    async def knock() -> tuple[list[Visit], float]:
        windows = [await Window(port, "").open() for _ in range(count)]
        await asyncio.sleep(at - time.time())
        started = time.monotonic()
        visits = await asyncio.gather(*(window.knock(asked) for window in windows))
        seconds = time.monotonic() - started
        for window in windows:
            await window.close()
        return visits, seconds

    return asyncio.run(knock())
