"""The kill matrix: a worker dies, or freezes for longer than its lock lives, just before and after every step.

Real web, Celery workers, Valkey, PostgreSQL, and the sandbox over HTTP. Another worker finishes; the end check E holds:
within 60 s an answer, one open session, no creation more than the protocol needs, one customer, nothing pending.
All cells run side by side in one world, each with a buyer of its own; each is a test that waits for its cell.

`KILLS=full` freezes for twice the lock's lifetime and sweeps every 30 s as production does; else 6 s and 1 s.
"""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.kills.asking import in_background, thaw
from tests.kills.steps import CHANGES, FULL, prepared
from tests.kills.world import LOCK_SECONDS, World, running_world
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

FROZEN_SECONDS = 2 * LOCK_SECONDS if FULL else LOCK_SECONDS + 1
STEPS = ["2", "3", "customer", "4", "5", "6", "7", "8", "9", "10", "11"]
CELLS = [
    *[(step, moment, what) for what in ("kill", "stop") for step in STEPS for moment in ("before", "after")],
    *[(step, "commit", what) for what in ("kill", "stop") for step in CHANGES],
]
QUICK = [
    ("4", "after", "kill"),
    ("5", "after", "kill"),
    ("6", "commit", "kill"),
    ("9", "after", "kill"),
    ("5", "before", "stop"),
    ("7", "after", "stop"),
    ("10", "before", "stop"),
    ("6", "commit", "stop"),
]
CHOSEN = CELLS if FULL else QUICK
# Frozen here, a worker holds an older view of the lane and has a compare-and-set before it: it must lose it. Elsewhere
# it reads the lane anew, or sees that its lock is gone.
STALE = {("2", "after"), ("4", "after"), *[(step, "before") for step in CHANGES]}
STALE |= {(step, moment) for step in ("3", "customer", "5", "7", "10") for moment in ("before", "after")}
# Frozen with a connection in hand for longer than TRANSACTION_SECONDS, it finds it closed and begins again (LED-60).
CONNECTED = {("2", "before"), *[(step, moment) for step in CHANGES for moment in ("before", "commit")]}
FROZEN_AT_ONCE = 4  # of 8 workers: somebody has to take over


class Matrix:
    """All chosen cells, begun at once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._freezer = threading.Semaphore(FROZEN_AT_ONCE)
        self._results = {cell: in_background(self._cell(*cell)) for cell in CHOSEN}

    def result(self, cell: tuple[str, str, str]) -> Any:
        return self._results[cell]()

    def _cell(self, step: str, moment: str, what: str) -> Callable[[], float]:
        def run() -> float:
            if what == "kill":
                return self._run(step, moment, what)
            with self._freezer:
                return self._run(step, moment, what)

        return run

    def _run(self, step: str, moment: str, what: str) -> float:
        world, user_id = self._world, f"{what}-{moment}-{step}"
        plan, creates = prepared(world, user_id, step)
        world.arm(user_id, step, moment, what)
        begun = time.monotonic()
        answered = in_background(lambda: world.buy(user_id, plan=plan))
        pid = world.tripped(user_id)
        if what == "stop":
            frozen = time.monotonic()
            try:
                answer = answered()
                time.sleep(max(0.0, FROZEN_SECONDS - (time.monotonic() - frozen)))
            finally:
                thaw(pid)
            wait_until(lambda: world.said(pid, "lock.lapsed", user_id), f"the stale worker ended: {user_id}", 30)
            cut_off = world.said(pid, "job.put_off", user_id)
            assert not cut_off or (step, moment) in CONNECTED, user_id
            assert cut_off or world.said(pid, "lane.moved_on", user_id) == ((step, moment) in STALE), user_id
        else:
            answer = answered()
        seconds = time.monotonic() - begun
        world.at_rest(user_id, answer["url"], creates=creates)
        return seconds


@pytest.fixture(scope="module")
def matrix(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    with (
        postgres.fresh() as database,
        running_world(
            tmp_path_factory.mktemp("kills"), database=database, workers=8, sweep_seconds=30 if FULL else 1
        ) as world,
    ):
        yield Matrix(world)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cell", CHOSEN, ids=" ".join)
def test_worker_that_dies_or_freezes_at_a_step_is_followed_by_one_that_finishes(
    matrix: Matrix, cell: tuple[str, str, str], record_property: Callable[[str, object], None]
) -> None:
    """LAN-1, LAN-2, LAN-7, LAN-9, LAN-10, CHK-1, CHK-2, CHK-8; faults rows 9 to 18."""
    record_property("seconds", round(matrix.result(cell), 1))
