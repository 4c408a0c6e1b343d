"""`python -m tests.bench.simulate`: how long events wait at rates that no machine here can show.

A simulation with named assumptions, and no measurement. Bursts of events arrive at random. A worker's thread takes a
customer, and needs processor time, the budget, Stripe and the database. Each of these is a station that serves in
order.
`tests/bench/test_simulate.py` checks it against what can be computed, and against a measured point of `make scale`.
"""

import heapq
import random
import sys
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace

SECONDS = 60.0  # of arrivals; what waits at the end is worked, too

# Yields when its next step is due, or None to wait for a thread. Is sent the time.
Visit = Generator[float | None, float, None]


@dataclass(frozen=True, slots=True)
class World:
    """The assumptions. Times in seconds, rates for one second."""

    events: float  # deliveries
    burst: int = 12  # events of one customer that one visit works
    webs: int = 1  # processes, a core each
    web_cpu: float = 0.000225  # for one delivery; docs/benchmarks.md
    workers: int = 1  # processes, a core each
    threads: int = 8
    visit_cpu: float = 0.0108  # for one visit: 0.9 ms for each of twelve events; docs/benchmarks.md
    calls: float = 1.5  # to Stripe in one visit: subscriptions always, invoices when their state asks for it
    stripe_seconds: float = 0.15  # one call, median
    stripe_spread: float = 0.4  # sigma of its logarithm: 99 of 100 within 2.5 times the median
    stripe_limit: float = 75  # calls: three quarters of Stripe's 100; the rest is the buyers'
    commits: int = 3  # for one visit
    commit_seconds: float = 0.003
    database_limit: float = 5_000  # commits; deliveries of one burst share one


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds from the delivery to the projection, and how busy each kind of station was (0 to 1)."""

    median: float
    p99: float
    events_per_second: float
    busy: dict[str, float]

    @property
    def busiest(self) -> str:
        return max(self.busy, key=lambda name: self.busy[name])


class Station:
    """One server that serves in the order in which it is asked."""

    def __init__(self) -> None:
        self.free_at = self.worked = 0.0

    def take(self, now: float, seconds: float) -> float:
        """The moment at which a service that is asked for now ends."""
        self.free_at = max(now, self.free_at) + seconds
        self.worked += seconds
        return self.free_at


def simulate(world: World, *, arrivals: list[float] | None = None) -> Outcome:
    """Let visits arrive for a minute, or at the given moments, and work all of them."""
    chance = random.Random(0)  # the same table every time
    webs = [Station() for _ in range(world.webs)]
    cores = [Station() for _ in range(world.workers)]
    budget, database = Station(), Station()
    free = deque(number % world.workers for number in range(world.workers * world.threads))
    waits: list[float] = []

    def visit(arrival: float) -> Visit:
        now = yield arrival
        now = yield webs[chance.randrange(world.webs)].take(now, world.burst * world.web_cpu)
        yield database.take(now, 1 / world.database_limit)
        now = yield None
        core = free.popleft()
        now = yield cores[core].take(now, world.visit_cpu)
        for _ in range(int(world.calls) + (chance.random() < world.calls % 1)):
            now = yield budget.take(now, 1 / world.stripe_limit)
            now = yield now + world.stripe_seconds * chance.lognormvariate(0, world.stripe_spread)
        for _ in range(world.commits):
            now = yield database.take(now, 1 / world.database_limit) + world.commit_seconds
        free.append(core)
        waits.append(now - arrival)

    moments = list(_poisson(world.events / world.burst, chance)) if arrivals is None else arrivals
    last = _run([visit(moment) for moment in moments], free)
    waits.sort()
    kinds = {"the webs": webs, "the workers": cores, "Stripe's limit": [budget], "the database": [database]}
    return Outcome(
        median=waits[len(waits) // 2],
        p99=waits[int(len(waits) * 0.99)],
        events_per_second=len(waits) * world.burst / last,
        busy={name: sum(one.worked for one in some) / len(some) / last for name, some in kinds.items()},
    )


def _run(visits: list[Visit], free: deque[int]) -> float:
    """Let each visit take its next step when it is due, in the order of time; the moment of the last one."""
    due = [(next(visit) or 0.0, number) for number, visit in enumerate(visits)]
    heapq.heapify(due)
    waiting: deque[int] = deque()  # for a thread
    now = 0.0
    while due:
        now, number = heapq.heappop(due)
        try:
            until = visits[number].send(now)
        except StopIteration:
            pass
        else:
            if until is None:
                waiting.append(number)
            else:
                heapq.heappush(due, (until, number))
        while waiting and free:
            number = waiting.popleft()
            heapq.heappush(due, (visits[number].send(now) or now, number))
    return now


def _poisson(rate: float, chance: random.Random) -> Iterator[float]:
    now = chance.expovariate(rate)
    while now < SECONDS:
        yield now
        now += chance.expovariate(rate)


MANY = World(10_000, webs=8, workers=24, threads=16, stripe_limit=1_500)
CASES = (
    ("one of each", World(100)),
    ("one web, two workers", World(100, workers=2)),
    ("one web, two workers", World(1_000, workers=2)),
    ("one web, four workers", World(1_000, workers=4)),
    ("the same; Stripe's limit raised to 400", World(1_000, workers=4, stripe_limit=300)),
    ("eight webs, 24 workers; limit 400", replace(MANY, stripe_limit=300)),
    ("the same; limit 2,000", MANY),
    ("the same; a database of 2,000 commits/s", replace(MANY, database_limit=2_000)),
)


def main() -> None:
    """Print the table. Arguments `NAME=VALUE` change an assumption for all of its rows."""
    changes = dict(argument.split("=", 1) for argument in sys.argv[1:])
    print("| events/s | processes | median | p99 | busiest |\n| ---: | --- | ---: | ---: | --- |")
    for name, case in CASES:
        world = replace(case, **{field: type(getattr(case, field))(text) for field, text in changes.items()})
        found = simulate(world)
        times = f"{found.median:.2f} s | {found.p99:.2f} s"
        print(f"| {world.events:,.0f} | {name} | {times} | {found.busiest}, {found.busy[found.busiest]:.0%} |")


if __name__ == "__main__":
    main()
