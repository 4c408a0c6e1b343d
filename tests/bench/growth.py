"""Our receiver as its ledger grows, and its memory over a million deliveries.

A ledger of many rows takes its load in turns with an empty one, so that whatever else the machine does hits both.
"""

import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from billing.database import Database
from billing.models import events
from tests.bench.load import A_BURST, Load, a_body, send, write_deliveries
from tests.bench.serving import POSTGRESQL, SQLITE, Server, receiver
from tests.support.databases import running_postgres

ROWS = (0, 100_000, 1_000_000)
EVENTS = 1_000_000
CHUNK_SECONDS = 10  # deliveries are made for so long at a time: their signatures are good for 300 s
FIRST_SECONDS = 3  # some ten thousand deliveries, from which OPS-62 counts
FILLED = 10_000  # rows in a transaction
MOST_A_SECOND = 8000
MOST_MEMORY, MOST_GROWTH = 180 * 2**20, 0.1  # of the web, from ten thousand deliveries to a million
KINDS = (SQLITE, POSTGRESQL)


@dataclass(frozen=True, slots=True)
class Grown:
    """What an event costs in a ledger of so many rows, and in an empty one in the same rounds."""

    rows: int
    seconds: float
    ratio: float
    cpu_each: float
    cpu_ratio: float


def grow(rows: Sequence[int], *, seconds: float, rounds: int) -> dict[str, list[Grown]]:
    """The cost of an event for each database and each number of rows."""
    found: dict[str, list[Grown]] = {}
    for kind in KINDS:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            postgres = stack.enter_context(running_postgres(durable=True)) if kind == POSTGRESQL else None
            empty = stack.enter_context(receiver(kind, folder / "empty", postgres))
            grown = stack.enter_context(receiver(kind, folder / "grown", postgres))
            warm = write_deliveries(folder, "warm", 2 * MOST_A_SECOND)
            for server in (empty, grown):
                send(warm, server.port, seconds=2)
            found[kind] = []
            for count in rows:
                assert grown.ledger
                fill(grown.ledger, count, payload=a_body(b"0", b"0"))
                found[kind].append(_beside(empty, grown, folder, count, seconds, rounds))
    return found


def _beside(empty: Server, grown: Server, folder: Path, count: int, seconds: float, rounds: int) -> Grown:
    loads: dict[Server, list[Load]] = {empty: [], grown: []}
    cpu: dict[Server, list[float]] = {empty: [], grown: []}
    order = [empty, grown]
    for number in range(rounds):
        deliveries = write_deliveries(folder, f"{count} {number}", int(MOST_A_SECOND * seconds))
        for server in order:
            before = server.cpu_seconds()
            load = send(deliveries, server.port, seconds=seconds)
            assert not load.refused, load
            cpu[server].append((server.cpu_seconds() - before) / load.requests)
            loads[server].append(load)
        deliveries.with_name(f"{deliveries.name}.1").unlink()
        order.reverse()
    rates = zip(loads[empty], loads[grown], strict=True)
    costs = zip(cpu[empty], cpu[grown], strict=True)
    return Grown(
        rows=count,
        seconds=statistics.median(1 / load.rate for load in loads[grown]),
        ratio=statistics.median(one.rate / other.rate for one, other in rates),
        cpu_each=statistics.median(cpu[grown]),
        cpu_ratio=statistics.median(other / one for one, other in costs),
    )


def growth_table(found: dict[str, list[Grown]]) -> str:
    """Time and CPU for each event, each with its ratio to an empty ledger's in the same rounds."""
    counts = [f"{one.rows:,}" for one in next(iter(found.values()))]
    lines = [f"| ledger rows | {' | '.join(counts)} |", f"| --- | {' | '.join('---:' for _ in counts)} |"]
    for kind, costs in found.items():
        times = [f"{one.seconds * 1e6:.0f} µs ({one.ratio:.2f})" for one in costs]
        cpu = [f"{one.cpu_each * 1e6:.0f} µs ({one.cpu_ratio:.2f})" for one in costs]
        lines += [f"| time for each event, {kind} | {' | '.join(times)} |"]
        lines += [f"| of it the web's CPU | {' | '.join(cpu)} |"]
    return "\n".join(lines)


def remember(count: int) -> dict[str, list[tuple[int, int]]]:
    """The web's memory, in bytes, after so many deliveries of `count` in all: on each database."""
    found = {}
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder, receiver(kind, Path(folder) / "it") as server:
            found[kind] = []
            for sent, memory in _remembered(server, Path(folder), count):
                found[kind].append((sent, memory))
                line = f"{kind}: {sent:,} of {count:,} deliveries, {memory / 2**20:.1f} MiB"
                print(line, file=sys.stderr, flush=True)
    return found


def memory_verdict(found: dict[str, list[tuple[int, int]]]) -> str:
    """What was asked of the memory, and whether it is so: a line for each database."""
    lines = []
    for kind, steps in found.items():
        most, first = max(memory for _, memory in steps), steps[0][1]
        more = max(abs(memory / first - 1) for _, memory in steps)
        is_so = most <= MOST_MEMORY and more <= MOST_GROWTH
        lines.append(
            f"{kind}: at most {most / 2**20:.0f} MiB ({MOST_MEMORY / 2**20:.0f} asked), from {steps[0][0]:,} to"
            f" {steps[-1][0]:,} deliveries within {more:.1%} ({MOST_GROWTH:.0%} asked): {'yes' if is_so else 'NO'}."
        )
    return "\n".join(lines)


def _remembered(server: Server, folder: Path, count: int) -> Iterator[tuple[int, int]]:
    sent, number = 0, 0
    while sent < count:
        seconds = CHUNK_SECONDS if number else FIRST_SECONDS
        deliveries = write_deliveries(folder, f"chunk {number}", MOST_A_SECOND * seconds)
        load = send(deliveries, server.port, seconds=seconds)
        assert load.refused < load.requests / 100, load  # a stall of a busy machine may cost some a 503
        deliveries.with_name(f"{deliveries.name}.1").unlink()
        sent, number = sent + load.requests, number + 1
        yield sent, server.memory_bytes()


def memory_table(found: dict[str, list[tuple[int, int]]]) -> str:
    """Some of the steps: the first is after the warm-up."""
    lines = []
    for kind, steps in found.items():
        shown = [steps[0], *steps[len(steps) // 4 :: max(1, len(steps) // 4)], steps[-1]]
        shown = [step for number, step in enumerate(shown) if step not in shown[:number]]
        most, least = max(memory for _, memory in steps), steps[0][1]
        lines += [f"| {kind}: deliveries | {' | '.join(f'{sent:,}' for sent, _ in shown)} | most above the first |"]
        lines += [f"| --- | {' | '.join('---:' for _ in shown)} | ---: |"]
        cells = " | ".join(f"{memory / 2**20:.1f} MiB" for _, memory in shown)
        lines += [f"| the web's memory | {cells} | {(most - least) / 2**20:.1f} MiB |", ""]
    return "\n".join(lines).strip()


def fill(ledger: Database, count: int, *, payload: bytes, days: int = 0) -> None:
    """Let the ledger have so many rows, done, twelve for each of their customers, with ids as scattered as Stripe's.

    They came now; or evenly over so many days, up to now.
    """
    # In brackets: in SQLite || binds more than *.
    ago = f"(({count} - n) * {days * 86_400 / max(count, 1)})"
    with ledger.read() as connection:
        there = int(connection.scalar(sa.select(sa.func.count()).select_from(events)) or 0)
    if ledger.is_sqlite:
        mark, now = "lower(hex(randomblob(12)))", f"datetime('now', '-' || ({ago}) || ' seconds')"
        numbers = "WITH RECURSIVE n(n) AS (SELECT :first UNION ALL SELECT n + 1 FROM n WHERE n < :last)"
    else:
        mark, now = "left(md5(n::text || random()::text), 24)", f"now() - make_interval(secs => {ago})"
        numbers = "WITH n(n) AS (SELECT generate_series(CAST(:first AS int), CAST(:last AS int)))"
    insert = sa.text(
        "INSERT INTO events (account, livemode, event_id, type, customer_id, object_id, status, attempts,"
        f" next_attempt_at, created_at, received_at, finished_at, payload) {numbers}"
        f" SELECT '', false, 'evt_' || {mark}, 'invoice.paid', 'cus_old_' || (n / {A_BURST}), 'in_' || {mark},"
        f" 'done', 1, {now}, {now}, {now}, {now}, :payload FROM n"
    )
    for first in range(there + 1, count + 1, FILLED):
        with ledger.write() as connection:
            connection.execute(insert, {"first": first, "last": min(count, first + FILLED - 1), "payload": payload})
    if not ledger.is_sqlite:
        with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("VACUUM ANALYZE events")
            connection.exec_driver_sql("CHECKPOINT")
