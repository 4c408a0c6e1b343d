"""`make race`: search the real code for a broken invariant, then show that every shortcut is found out.

It also counts which troubles were met on the way: a search that never met one of them has not looked there, and fails.

python -m tests.races [MINUTES]   how long to look by seeds, after every run of each scene with one delay or one crash
python -m tests.races NAME        the story of one shortcut, to read
python -m tests.races seed=N      one seed again, with its story when it breaks something
"""

import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import structlog
from rich.console import Console
from rich.table import Table

from tests.races.explorer import Broken, Explorer, first_broken
from tests.races.surroundings import TROUBLES
from tests.races.switch import ALL, dies_of_its_test
from tests.races.test_interleavings import SCENES

console = Console(width=140)
Searched = tuple[int, int, Counter[str], str | None]  # runs, states, troubles met, the story of what broke


def main() -> None:
    """Both halves; exit 1 when an invariant broke or a shortcut survived."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    argument = sys.argv[1] if len(sys.argv) > 1 else "4"
    if argument in ALL:
        found = _try(argument)
        console.print(found[1] if found else "not found", highlight=False, markup=False, soft_wrap=True)
        return
    if argument.startswith("seed="):
        runs, steps, met, story = seeds(int(argument.removeprefix("seed=")), 0.0)
        console.print(story or f"{steps} steps, nothing broken", highlight=False, markup=False, soft_wrap=True)
        return
    started = time.monotonic()
    with multiprocessing.Pool(2) as pool:
        jobs = [pool.apply_async(straight, (name, 1)) for name in SCENES]
        jobs += [pool.apply_async(seeds, (first, float(argument) * 60)) for first in range(2)]
        tried = [pool.apply_async(mutant, (name,)) for name in ALL]
        results = [job.get() for job in jobs]
        deaths = [job.get() for job in tried]
    broken = [story for *_, story in results if story]
    runs, steps = sum(result[0] for result in results), sum(result[1] for result in results)
    console.print(f"{runs:,} interleavings, {steps:,} states, {len(broken)} broken invariants", highlight=False)
    met = sum((result[2] for result in results), Counter[str]())
    troubles = Table("trouble", "times", title="What went wrong on the way")
    for name in TROUBLES:
        troubles.add_row(name, f"{met[name]:,}")
    console.print(troubles)
    for story in broken:
        console.print(story, highlight=False, markup=False, soft_wrap=True)
    table = Table("shortcut", "dies after", "steps", "because", title="Every shortcut of the protocols, switched on")
    for row in deaths:
        table.add_row(*row)
    console.print(table)
    console.print(f"{time.monotonic() - started:.0f} s", highlight=False)
    if broken or any(row[1] == "SURVIVED" for row in deaths) or not all(met[name] for name in TROUBLES):
        sys.exit(1)


def straight(name: str, most: int) -> Searched:
    """Every run of a scene with so many delays or one crash."""
    _quiet()
    with tempfile.TemporaryDirectory() as folder:
        explorer, runs, steps = Explorer(Path(folder)), 0, 0
        try:
            for length in chain(explorer.delayed(SCENES[name], most), explorer.crashed(SCENES[name])):
                runs, steps = runs + 1, steps + length
        except Broken as story:
            return runs, steps, explorer.met, str(story)
    return runs, steps, explorer.met, None


def seeds(first: int, seconds: float) -> Searched:
    """Seeds first, first + 2, ... for so long, and one at least."""
    _quiet()
    deadline = time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        explorer, runs, steps = Explorer(Path(folder)), 0, 0
        try:
            while runs == 0 or time.monotonic() < deadline:
                steps += len(explorer.run(first + 2 * runs).trace)
                runs += 1
        except Broken as story:
            return runs, steps, explorer.met, str(story)
    return runs, steps, explorer.met, None


def mutant(name: str) -> tuple[str, str, str, str]:
    """A row of the table."""
    _quiet()
    shortcut = ALL[name].shortcut
    if test := ALL[name].test:
        return shortcut, "its test" if dies_of_its_test(name) else "SURVIVED", "", test.rpartition("::")[2]
    found = _try(name)
    if found is None:
        return shortcut, "SURVIVED", "", ""
    return shortcut, f"{found[0]} runs", str(found[1].steps), found[1].sentence


def _try(name: str) -> tuple[int, Broken] | None:
    scene = ALL[name].scene
    assert scene is not None, "this one is decided by a test"
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        ALL[name].apply(patch)
        return first_broken(Explorer(Path(folder)), scene, seeds=300)


def _quiet() -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))


if __name__ == "__main__":
    main()
