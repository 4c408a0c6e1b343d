"""Asking the web as an own server does, and doing it beside something else."""

import json
import os
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

SERVER_KEY = "server-key-of-all-the-kills"
LONGEST_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer of the web's, and how long it took."""

    status: int
    body: dict[str, Any]
    location: str | None
    retry_after: str | None
    seconds: float


def ask(url: str, method: str, body: Any, **headers: str) -> Answer:
    """Send one request; `body` is sent as JSON, or as the bytes that it is. Raises OSError where nobody answers."""
    request = urllib.request.Request(
        url,
        method=method,
        data=body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {SERVER_KEY}", **headers},
    )
    begun = time.monotonic()
    try:
        answer = urllib.request.urlopen(request, timeout=LONGEST_SECONDS)
    except urllib.error.HTTPError as error:
        answer = error  # type: ignore[assignment]  # it is an answer, too
    with answer:
        read, said = json.loads(answer.read()), answer.headers
        return Answer(answer.status, read, said.get("Location"), said.get("Retry-After"), time.monotonic() - begun)


def answers(url: str) -> bool:
    """Whether it is answered with 200."""
    try:
        return ask(url, "GET", None).status == 200
    except OSError:
        return False


def thaw(pid: int) -> None:
    """SIGCONT."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


@contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Freeze processes for the block."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            thaw(pid)


def in_background(act: Callable[[], Any]) -> Callable[[], Any]:
    """Begin; what is given back waits for the result, or raises what it raised."""
    done: list[Any] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(act())
        except BaseException as error:  # noqa: BLE001 - raised again by who waits
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()

    def result() -> Any:
        thread.join()
        if failed:
            raise failed[0]
        return done[0]

    return result
