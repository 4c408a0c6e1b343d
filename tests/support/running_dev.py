"""A real `onelane dev` in a folder of its own, and the processes that it started."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from billing.process.run_with_parent import launched

ROOT = Path(__file__).parents[2]
# What the machine's own environment may say must not reach the tests' processes.
OURS = re.compile(
    r"(STRIPE|AUTH|REDIS|DATABASE|CELERY|PORT$|BIND$|ONELANE|CONSOLE|REDIRECT|CATALOG|PROMETHEUS|METRICS)"
)


def wait_until(condition: Callable[[], Any], what: Callable[[], str], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what()}"
        time.sleep(0.02)


def end_in_order() -> None:
    """Let SIGTERM and SIGINT end this process as an exception does: it stops what it started and removes its files.

    SIGINT, too: a shell starts what runs in the background with SIGINT ignored.

    Where it is killed outright, the kernel ends what it started (`launched`); files stay.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, signal.default_int_handler)


def environment(**settings: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    return {**inherited, **settings}


def onelane(*arguments: str, folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    """Run one command to its end."""
    return subprocess.run(
        [sys.executable, "-P", "-m", "onelane", *arguments],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), **settings),
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )


class Dev:
    """`onelane dev`, from its start to its end."""

    def __init__(self, folder: Path, port: int, **settings: str) -> None:
        self.folder, self.port = folder, port
        (folder / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
        self._output = folder / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            command = [sys.executable, "-P", "-m", "onelane", "dev"]
            self.process = subprocess.Popen(
                launched(command) if sys.platform == "linux" else command,  # also a test that is killed stops it
                cwd=folder,
                env=environment(**{"PYTHONPATH": str(ROOT), "PORT": str(port), **settings}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        return self._output.read_text("utf-8")

    def says(self, text: str, seconds: float = 60, times: int = 1) -> None:
        """Wait until it says this."""
        wait_until(
            lambda: self.output.count(text) >= times or self.process.poll() is not None,
            lambda: f"{text!r} in\n{self.output}",
            seconds,
        )
        assert self.output.count(text) >= times, self.output

    def get(self, path: str) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as answer:
            return int(answer.status)

    def children(self) -> dict[str, int]:
        """Its processes by what tells them apart in their command lines."""
        marks = {
            "valkey": "valkey-server",
            "sandbox": "-m onelane sandbox",
            "web": "-m onelane web",
            "checkout": "--name checkout",
            "worker": "--name worker",
            "beat": "onelane beat",
        }
        found = {}
        for pid in descendants(self.process.pid, deep=False):
            line = command_line(pid)
            found.update({name: pid for name, mark in marks.items() if mark in line})
        return found

    def terminate(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def _table() -> list[tuple[int, int, str]]:
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(parent), state) for pid, parent, state in map(str.split, listed.splitlines())]


def descendants(pid: int, *, deep: bool = True) -> list[int]:
    table = _table()
    found = [child for child, parent, _ in table if parent == pid]
    return found + [below for child in found for below in descendants(child)] if deep else found


def command_line(pid: int) -> str:
    return subprocess.run(["ps", "-o", "args=", "-ww", "-p", str(pid)], capture_output=True, text=True).stdout


def running(pids: list[int]) -> list[int]:
    """Those that still run; one that is dead and not yet reaped does not."""
    return [pid for pid, _, state in _table() if pid in pids and not state.startswith("Z")]
