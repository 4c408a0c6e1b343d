"""Switches one mutant on for a whole run of pytest: `MUTANT=name pytest -p tests.races.switch ...`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.races.checkout_mutants import CHECKOUT_MUTANTS
from tests.races.duplicate_mutants import DUPLICATE_MUTANTS
from tests.races.operation_mutants import OPERATION_MUTANTS
from tests.races.webhook_mutants import WEBHOOK_MUTANTS

ALL = CHECKOUT_MUTANTS | WEBHOOK_MUTANTS | OPERATION_MUTANTS | DUPLICATE_MUTANTS


def dies_of_its_test(name: str) -> bool:
    """Run a mutant's own test in a process of its own; whether that notices the shortcut."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.races.switch", "-p", "no:xdist"]
    run = subprocess.run(
        [*command, "-p", "no:cacheprovider", str(ALL[name].test), "-k", "sqlite"],
        cwd=Path(__file__).parents[2],
        # Without the outer run's options: they may shorten what is looked for, and its report is not this one's.
        env={**os.environ, "PYTEST_ADDOPTS": "", "MUTANT": name},
        capture_output=True,
        text=True,
        timeout=100,
    )
    return (
        run.returncode == 1 and " failed" in run.stdout and ("AssertionError" in run.stdout or "DID NOT" in run.stdout)
    )


def pytest_configure() -> None:
    """As a plugin."""
    if name := os.environ.get("MUTANT"):
        ALL[name].apply(pytest.MonkeyPatch())
