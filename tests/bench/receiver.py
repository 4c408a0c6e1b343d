"""The receiver side by side: bare Flask, the usual tutorial, and ours on SQLite and on PostgreSQL; then as it grows.

One run, one machine, one after the other, all under `app.server` with the same settings. Every 200 of ours is a
durable commit: SQLite with synchronous=FULL, PostgreSQL with fsync.
`python -m tests.bench.receiver [seconds] [rows,...] [million]` prints the tables.
"""

import http.client
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from app.ports import free_port
from billing.database import Database
from tests.bench.load import CONNECTIONS, SECRET, Load, send, write_deliveries
from tests.databases import running_postgres, sqlite_in
from tests.dev.running import ROOT, descendants, environment, wait_until
from tests.valkey import running_valkey

THREADS = 160  # as many as `onelane web` has
APPLICATIONS = {
    "bare Flask": "tests.bench.bare",
    "the usual tutorial": "tests.bench.tutorial",
    "onelane, SQLite": "app.wsgi",
    "onelane, PostgreSQL": "app.wsgi",
}
WARM_UP_SECONDS = 2
MOST_A_SECOND = 9000  # so many deliveries are made for the warm-up, after which the rate is known


@dataclass(frozen=True, slots=True)
class Server:
    """A receiver that runs: its port and its processes."""

    port: int
    pids: tuple[int, ...]
    ledger: Database | None = None

    def cpu_seconds(self) -> float:
        """User and system time of its processes so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def memory_bytes(self) -> int:
        """Resident memory of its processes."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self.pids)
        return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Measured:
    """One load on one receiver."""

    load: Load
    cpu_each: float  # seconds of the server's processes for a request
    memory: tuple[int, int]  # bytes before and after


def main(arguments: list[str]) -> None:
    """Print the tables."""
    if arguments[:1] == ["serve"]:
        return serve(arguments[1], int(arguments[2]))
    seconds = float(arguments[0]) if arguments else 8.0
    found = {name: measure(name, seconds) for name in APPLICATIONS if not arguments[1:] or name in arguments[1:]}
    print(table(found))
    print(
        f"\n{CONNECTIONS} connections, {seconds:.0f} s each."
        f" {os.cpu_count()} cores, Python {platform.python_version()}."
    )
    return None


def measure(name: str, seconds: float) -> Measured:
    """Put one receiver under load for so many seconds."""
    with tempfile.TemporaryDirectory() as folder, receiver(name, Path(folder)) as server:
        warm = write_deliveries(Path(folder), "warm", MOST_A_SECOND * WARM_UP_SECONDS)
        expected = send(warm, server.port, seconds=WARM_UP_SECONDS).rate
        deliveries = write_deliveries(Path(folder), "measured", int(max(expected * 2.5, 2000) * seconds))
        cpu, memory = server.cpu_seconds(), server.memory_bytes()
        load = send(deliveries, server.port, seconds=seconds)
        assert not load.refused, load
        return Measured(load, (server.cpu_seconds() - cpu) / load.requests, (memory, server.memory_bytes()))


def table(found: Mapping[str, Measured]) -> str:
    """The rows of the comparison, in Markdown."""
    bare, tutorial = (found[name].load.rate if name in found else 0 for name in ("bare Flask", "the usual tutorial"))
    lines = [
        "| receiver | requests/s | x tutorial | of bare | p50 | p99 | CPU a request | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        load, (before, after) = one.load, one.memory
        ratios = f"{load.rate / tutorial if tutorial else 0:.1f} | {load.rate / bare if bare else 0:.2f}"
        times = f"{load.p50 * 1000:.1f} ms | {load.p99 * 1000:.1f} ms | {one.cpu_each * 1e6:.0f} µs"
        memory = f"{before / 2**20:.0f} to {after / 2**20:.0f} MiB"
        lines.append(f"| {name} | {load.rate:,.0f} | {ratios} | {times} | {memory} |")
    return "\n".join(lines)


@contextmanager
def receiver(name: str, folder: Path) -> Iterator[Server]:
    """Start one of the four, with everything it needs, each new."""
    with ExitStack() as stack:
        valkey = stack.enter_context(running_valkey(folder / "valkey"))
        settings = {
            "REDIS_URL": valkey.url,
            "STRIPE_WEBHOOK_SECRETS": SECRET,
            "AUTH_JWT_SECRET": "nobody asks for a checkout here, whatever",
            "CATALOG": str(ROOT / "catalog.toml"),
        }
        ledger = None
        if name == "onelane, SQLite":
            ledger = stack.enter_context(sqlite_in(folder))
        elif name == "onelane, PostgreSQL":
            ledger = stack.enter_context(stack.enter_context(running_postgres(durable=True)).fresh())
        if ledger:
            settings["DATABASE_URL"] = ledger.url.render_as_string(hide_password=False)
        port, pids = stack.enter_context(served(APPLICATIONS[name], folder, settings))
        yield Server(port, pids, ledger)


@contextmanager
def served(application: str, folder: Path, settings: Mapping[str, str]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Serve an application in processes of its own; their port and their ids."""
    port, log = free_port(18_850), folder / "log"
    command = [sys.executable, "-m", "tests.bench.receiver", "serve", application, str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(**settings), stdout=output, stderr=output)
    try:
        wait_until(lambda: _listens(port) or process.poll() is not None, lambda: log.read_text("utf-8"))
        assert process.poll() is None, log.read_text("utf-8")
        yield port, (process.pid, *descendants(process.pid))
    finally:
        process.terminate()
        process.wait(40)


def serve(application: str, port: int) -> None:
    """Become the server: that of `onelane web`, over this application."""
    from app.server import serve as serve_until_stopped
    from billing.settings import load_settings

    settings = load_settings(port=port, stripe_api_key=None)
    serve_until_stopped(settings, workers=1, threads=THREADS, load=lambda: import_module(application).application)


def _listens(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/webhooks/stripe")
        return connection.getresponse().status == 405
    except OSError:
        return False
    finally:
        connection.close()


if __name__ == "__main__":
    main(sys.argv[1:])
