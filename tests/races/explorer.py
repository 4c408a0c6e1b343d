"""The explorer: the real checkout code in made-up scenes, step by step, without any customer lock.

A scene has two workers, buyers who ask and pay or leave, and ingredients: a payment page that has been open for a
while, a session that an earlier system left, somebody in the Dashboard, crashes, lost and late answers, saved 500s, 409
and 429, lists that lag, minutes or a day that pass, a restored backup, a price that Stripe does not have. The
invariants of the protocol (I1 to I6) are looked at after every step, and at rest.
"""

import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import sqlalchemy as sa

from billing.database import Database
from billing.database.migrations import upgrade
from billing.models import metadata
from tests.races.lane import Lane
from tests.races.ports import SteppedDatabase
from tests.races.scene import Broken, Scene
from tests.races.schedule import Schedule

__all__ = ["Broken", "Explorer", "Scene", "first_broken"]


class Explorer:
    """Runs one schedule after the other, each on an empty ledger and an empty Stripe."""

    def __init__(self, folder: Path) -> None:
        path = folder / "ledger.sqlite3"
        migrated = Database(f"sqlite:///{path}")
        upgrade.upgrade(migrated)
        migrated.close()
        # One engine for all runs: compiling its statements anew would cost half of a run.
        self._database = SteppedDatabase(f"sqlite:///{path}")
        sa.event.listen(self._database.engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        self.met: Counter[str] = Counter()  # how often each kind of trouble came, in all runs
        self._raw = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._raw.execute("PRAGMA synchronous=OFF")

    def close(self) -> None:
        """Let go of the ledger."""
        self._database.close()
        self._raw.close()

    def run(
        self,
        seed: int,
        scene: Scene | None = None,
        delays: dict[int, int] | None = None,
        *,
        crash_at: int | None = None,
    ) -> Schedule:
        """One interleaving. Raises Broken."""
        self._database.schedule = None
        self._raw.execute("BEGIN IMMEDIATE")
        for table in reversed(metadata.sorted_tables):
            self._raw.execute(f"DELETE FROM {table.name}")
        self._raw.execute("COMMIT")
        random.seed(seed)  # the jitter of the code under test
        schedule = Schedule(seed, delays, crash_at=crash_at)
        Lane(self._database, self._raw, schedule, scene or Scene.of(seed)).play()
        self.met += schedule.met
        return schedule

    def delayed(self, scene: Scene, most: int, *, every: int = 1) -> Iterator[int]:
        """Depth-first: every run with at most so many delays; yields the steps of each. Raises Broken.

        With `every` 2 only the first, third, fifth step and so on is the first to be delayed.
        """

        def deeper(taken: dict[int, int], first: int, left: int) -> Iterator[int]:
            schedule = self.run(0, scene, taken)
            yield len(schedule.trace)
            for step in range(first, len(schedule.width), 1 if taken else every):
                for count in range(1, min(left + 1, schedule.width[step])):
                    yield from deeper({**taken, step: count}, step + 1, left - count)

        return deeper({}, 0, most)

    def crashed(self, scene: Scene, *, every: int = 1) -> Iterator[int]:
        """The straight run with a crash at each of its steps; yields the steps of each. Raises Broken."""
        for step in range(0, len(self.run(0, scene, {}).trace), every):
            yield len(self.run(0, scene, {}, crash_at=step).trace)


def first_broken(explorer: Explorer, scene: Scene, *, seeds: int) -> tuple[int, Broken] | None:
    """How many runs it takes to break an invariant in this scene, and the story: first depth-first, then by seeds."""
    runs = 0
    try:
        for _ in chain(explorer.delayed(scene, 1), explorer.crashed(scene)):
            runs += 1
        for seed in range(seeds):
            explorer.run(seed, scene)
            runs += 1
    except Broken as broken:
        return runs + 1, broken
    return None
