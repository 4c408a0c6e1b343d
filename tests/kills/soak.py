"""The soak: subscriptions change at the sandbox, so many events a second, while everything is killed in turn.

`python -m tests.kills.soak [minutes] [events a second]` (5 and 200), also as `make soak`. It stops by itself and prints
what was sent, how it was answered, how often what was killed, and whether anything was lost or differs at the end.
"""

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from billing.errors import LedgerUnavailable
from tests.kills.postgres import KillablePostgres, killable_postgres
from tests.kills.sending import NO_ANSWER, Sending
from tests.kills.subscribers import LOST, Subscribers, unlike_stripe
from tests.kills.world import World, running_world
from tests.support.running_dev import end_in_order
from tests.support.valkey import wait_until

WORKERS, CUSTOMERS = 4, 300
EVERY_SECONDS = 6  # something is killed so often
DRAIN_SECONDS = 300  # E, where a lease, a sweep and Stripe's patience come one after the other
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Soaked:
    """What came of it. `wrong` says in what the end is not as it has to be."""

    seconds: float
    events: int
    deliveries: int
    statuses: Counter[int]
    killed: Counter[str]
    answer_seconds: list[float]  # of every 2xx, sorted
    drain_seconds: float  # after the last change, until everything was right
    subscriptions: int
    wrong: str | None

    def __str__(self) -> str:
        answers = ", ".join(f"{'no answer' if one == NO_ANSWER else one}: {n:,}" for one, n in self.statuses.items())
        killed = ", ".join(f"{what} {count}" for what, count in self.killed.items()) or "nothing"
        p50, p99 = (self.answer_seconds[int(len(self.answer_seconds) * share)] * 1000 for share in (0.5, 0.99))
        return (
            f"{self.events:,} events in {self.seconds:.0f} s ({self.events / self.seconds:.0f}/s),"
            f" {self.deliveries:,} deliveries\n"
            f"answered  {answers}; 2xx after p50 {p50:.0f} ms, p99 {p99:.0f} ms\n"
            f"killed    {killed}\n"
            f"at the end, {self.drain_seconds:.0f} s later: {self.wrong or self._right}"
        )

    @property
    def _right(self) -> str:
        return f"0 lost, 0 waiting, {self.subscriptions:,} subscriptions as Stripe has them, no change told twice"


def main() -> int:
    """Print what came of it; 1 where something is wrong."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    rate = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    with tempfile.TemporaryDirectory(prefix="onelane-soak-") as folder, killable_postgres() as postgres:
        soaked = soak(Path(folder) / "world", postgres, seconds=minutes * 60, rate=rate)
    print(f"{soaked}\n{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; everything shares the machine.")
    return 1 if soaked.wrong else 0


def soak(
    folder: Path,
    postgres: KillablePostgres,
    *,
    seconds: float,
    rate: int,
    customers: int = CUSTOMERS,
    every_seconds: float = EVERY_SECONDS,
    sweep_seconds: float = 30,
    **settings: str,
) -> Soaked:
    """Change, deliver and kill for so long, then wait until all is right."""
    with running_world(
        folder,
        database=postgres.database,
        workers=WORKERS,
        sweep_seconds=sweep_seconds,
        sandbox="tests.kills.changing",
        **settings,
    ) as world:
        sending = Sending(world.port, folder / "events.jsonl")
        (folder / "planned").write_text(f"{customers} {rate} {10**9}", "utf-8")
        (folder / "planned").rename(folder / "plan")
        sending.start()
        begun, killed = time.monotonic(), Counter[str]()
        faults = _faults(world, postgres)
        while time.monotonic() - begun < seconds:
            time.sleep(max(0.0, min(every_seconds, seconds - (time.monotonic() - begun))))
            if time.monotonic() - begun < seconds:
                killed[next(faults)()] += 1
        (folder / "plan").unlink()
        wait_until((folder / "changed").exists, "the changes end")
        changed = int((folder / "changed").read_text("utf-8"))
        took, ended = time.monotonic() - begun, time.monotonic()
        try:
            wrong, count = until_right(world, sending, changed)
        finally:
            sending.stop()
        return Soaked(
            took,
            changed,
            sending.deliveries,
            sending.statuses,
            killed,
            sorted(sending.seconds),
            time.monotonic() - ended,
            count,
            wrong,
        )


def _faults(world: World, postgres: KillablePostgres) -> Iterator[Callable[[], str]]:
    """In turn. All of them from this thread: a process is killed with the thread that started it."""

    def worker() -> str:
        with suppress(ProcessLookupError):
            os.kill(random.choice(world.worker_pids()), signal.SIGKILL)
        return "worker"

    def valkey() -> str:
        world.valkey.kill()
        world.valkey.start()
        return "Valkey"

    def emptied() -> str:
        world.valkey.kill()
        world.valkey.forget()
        world.valkey.start()
        return "Valkey with its data"

    def database() -> str:
        postgres.kill()
        postgres.start()
        return "PostgreSQL"

    def web() -> str:
        world.restart_web()
        return "web"

    while True:
        yield from (worker, valkey, worker, database, web, worker, emptied, database)


def until_right(world: World, sending: Sending, changed: int) -> tuple[str | None, int]:
    """Wait for the end check; what is still wrong when the time is up, and how many subscriptions there are."""
    buyers, deadline = Subscribers(world), time.monotonic() + DRAIN_SECONDS
    wrong: str | None = "nothing was looked at"
    there: dict[str, list[Json]] = {}
    while wrong and time.monotonic() < deadline:
        time.sleep(0.5)
        if len(sending.ids) < changed or sending.undelivered():
            wrong = f"{sending.undelivered()} events have no 2xx"
            continue
        there = buyers.everybody()
        with suppress(LedgerUnavailable):
            wrong = unlike_stripe(world, list(there), there.__getitem__, sending.ids)
        if wrong and LOST in wrong:
            break  # each of them had its 2xx: nobody will send it again
    return wrong, sum(map(len, there.values()))


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
