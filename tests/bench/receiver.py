"""`make bench ARGS=receiver`: the four receivers side by side, ours as its ledger grows, and its memory over a million.

All four run at the same time and take the load in turns, in short rounds, each round in another order: whatever else
the machine does hits all alike. Ratios are the medians of those within a round.
"""

import argparse
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import growth, written
from tests.bench.load import CONNECTIONS, Load, send, write_deliveries
from tests.bench.serving import APPLICATIONS, BARE, TUTORIAL, Server, receiver

SECONDS, ROUNDS = 8, 5
WARM_UP_SECONDS = 2
MOST_A_SECOND = 14_000  # so many deliveries are made for a round: more than bare Flask answers
PARTS = ("compare", "growth", "memory")


@dataclass(slots=True)
class Measured:
    """One receiver's rounds."""

    loads: list[Load] = field(default_factory=list)
    cpu_seconds: float = 0.0  # of the server's processes, in all of the rounds
    memory: tuple[int, int] = (0, 0)  # bytes before and after

    @property
    def rate(self) -> float:
        """Requests a second, over all rounds."""
        return sum(load.requests for load in self.loads) / sum(load.seconds for load in self.loads)

    @property
    def cpu_each(self) -> float:
        """Seconds of a processor for a request."""
        return self.cpu_seconds / sum(load.requests for load in self.loads)

    def middle(self, name: str) -> float:
        """The median of the rounds' percentiles."""
        return statistics.median(getattr(load, name) for load in self.loads)

    def beside(self, other: "Measured | None", name: str = "rate") -> float | None:
        """How much more than the other's, round by round; the median."""
        if other is None:
            return None
        pairs = zip(self.loads, other.loads, strict=True)
        return statistics.median(getattr(mine, name) / getattr(theirs, name) for mine, theirs in pairs)


def main(arguments: Sequence[str]) -> None:
    """Print the tables, and with --write put them and the plot into docs."""
    parser = argparse.ArgumentParser(prog='make bench ARGS="receiver ..."', description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help=f"seconds of a round (8), some of {', '.join(PARTS)} (all of them)")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="for each receiver (default 5)")
    parser.add_argument("--rows", default=",".join(map(str, growth.ROWS)), help="of the ledgers that are compared")
    parser.add_argument("--events", type=int, default=growth.EVENTS, help="for the memory (default 1000000)")
    parser.add_argument("--write", action="store_true", help="put what was measured into docs/benchmarks.md")
    given = parser.parse_args(arguments)
    seconds = next((int(word) for word in given.words if word.isdigit()), SECONDS)
    parts = [word for word in given.words if not word.isdigit()] or PARTS
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    started, text = time.monotonic(), list[str]()
    found: dict[str, Measured] = {}

    def say(part: str) -> None:
        text.append(part)
        print(f"{part}\n", flush=True)

    if "compare" in parts:
        found = compare(seconds, given.rounds)
        say(table(found))
        say(
            f"{CONNECTIONS} connections, {given.rounds} rounds of {seconds:.0f} s each. Ratios are medians of the"
            " rounds', times medians of the rounds' percentiles,\nCPU that of the web process."
        )
    if "growth" in parts:
        rows = [int(each) for each in given.rows.split(",")]
        say(growth.growth_table(growth.grow(rows, seconds=seconds, rounds=given.rounds)))
    if "memory" in parts:
        memory = growth.remember(given.events)
        say(growth.memory_table(memory))
        say(growth.memory_verdict(memory))
    say(machine())
    print(f"{time.monotonic() - started:.0f} s.")
    if given.write:
        rates = {name: one.rate for name, one in found.items()}
        written.write("\n\n".join(text), written.bars("Deliveries answered in a second", rates) if rates else None)


def compare(seconds: float, rounds: int) -> dict[str, Measured]:
    """Put each of the receivers under load, in turns."""
    found = {name: Measured() for name in APPLICATIONS}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running = {
            name: stack.enter_context(receiver(name, folder / str(number))) for number, name in enumerate(APPLICATIONS)
        }
        warm = write_deliveries(folder, "warm", MOST_A_SECOND * WARM_UP_SECONDS)
        for server in running.values():
            send(warm, server.port, seconds=WARM_UP_SECONDS)
        names, before = list(running), {name: server.memory_bytes() for name, server in running.items()}
        for number in range(rounds):
            deliveries = write_deliveries(folder, f"round {number}", int(MOST_A_SECOND * seconds))
            for name in names:
                measure(found[name], running[name], deliveries, seconds)
            deliveries.with_name(f"{deliveries.name}.1").unlink()
            names.append(names.pop(0))
        for name, server in running.items():
            found[name].memory = (before[name], server.memory_bytes())
    return found


def measure(measured: Measured, server: Server, deliveries: Path, seconds: float) -> None:
    """One round of one receiver."""
    rows = server.rows() if server.ledger else 0
    cpu = server.cpu_seconds()
    load = send(deliveries, server.port, seconds=seconds)
    measured.cpu_seconds += server.cpu_seconds() - cpu
    measured.loads.append(load)
    assert not load.refused, load
    if server.ledger:
        assert server.rows() - rows >= load.requests, "a 200 that is no row"


def table(found: Mapping[str, Measured]) -> str:
    """The rows of the comparison, in Markdown."""
    bare, tutorial = found.get(BARE), found.get(TUTORIAL)
    lines = [
        "| receiver | requests/s | x tutorial | of bare | p50 | p99 | p99, x bare | CPU a request | memory |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in found.items():
        cells = [f"{one.rate:,.0f}", _times(one.beside(tutorial), 1), _times(one.beside(bare), 2)]
        cells += [f"{one.middle('p50') * 1000:.1f} ms", f"{one.middle('p99') * 1000:.1f} ms"]
        cells += [_times(one.beside(bare, "p99"), 2), f"{one.cpu_each * 1e6:.0f} µs"]
        cells += [" to ".join(f"{each / 2**20:.0f}" for each in one.memory) + " MiB"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def machine() -> str:
    """What it was measured on, and what that shares."""
    return (
        f"{os.cpu_count()} cores ({_processor()}), {platform.system()}, Python {platform.python_version()},"
        f" load {os.getloadavg()[0]:.1f} at the end. The load generator, Valkey and PostgreSQL share\nthe cores with"
        " the receiver."
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _times(ratio: float | None, digits: int) -> str:
    return "" if ratio is None else f"{ratio:.{digits}f}"
