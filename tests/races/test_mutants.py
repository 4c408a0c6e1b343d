"""Every shortcut of the protocol page dies: a proof that the tests can see (fault 80)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.races.explorer import Broken, Explorer
from tests.races.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
MOST_SEEDS = 300
EXPLORED = [name for name, mutant in MUTANTS.items() if mutant.scene]
DECIDED = [name for name, mutant in MUTANTS.items() if mutant.test]


@pytest.mark.parametrize("name", EXPLORED)
def test_explorer_finds_a_counterexample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """LAN-2, LAN-5, LAN-7, CHK-6."""
    explorer = Explorer(tmp_path)
    MUTANTS[name].apply(monkeypatch)
    for seed in range(MOST_SEEDS):
        try:
            explorer.run(seed, MUTANTS[name].scene)
        except Broken:
            return
    pytest.fail(f"no interleaving of {MOST_SEEDS} shows what is wrong with this: {MUTANTS[name].shortcut}")


@pytest.mark.parametrize("name", DECIDED)
def test_named_test_fails_with_the_shortcut(name: str) -> None:
    """LAN-2 to LAN-18: run on SQLite, in a process of its own, with the shortcut switched on."""
    mutant = MUTANTS[name]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "tests.races.mutants",
        "-p",
        "no:xdist",
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run(
        [*command, str(mutant.test), "-k", "sqlite"],
        cwd=ROOT,
        env={**os.environ, "MUTANT": name},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 1, f"{mutant.shortcut}: {mutant.test} does not notice\n{run.stdout[-2000:]}"
    assert " failed" in run.stdout
    assert "AssertionError" in run.stdout, run.stdout[-2000:]
