"""A pytest plugin for `make mutation`: one process collects the tests once, and forks for each mutant.

MUTATION_PLAN names a file with the mutants and, for each, its tests in order. A child is an ordinary session of these
tests, with `-x`; the parent runs none, and writes what became of each into MUTATION_OUTCOMES. With MUTANT_UNDER_TEST,
which mutmut's code reads, the process has the one mutant of its plan from its imports on, and does not fork.
"""

import contextlib
import gc
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.mutation.outcomes import Outcome, note

# A busy machine may be ten times as slow as it was when the times were taken; 60 s for what starts a server.
SLOWER, LEAST_SECONDS = 10, 60
PAUSE_SECONDS = 0.02  # between two looks at the child
TOO_LATE = 124
_OF_BILLING = ("checkout/test_work", "operations/test_work", "duplicates/test_remedy", "subscriptions/test_money")
WARMS_UP = [f"tests/billing/{name}.py" for name in (*_OF_BILLING, "webhooks/test_process", "customers/test_customers")]


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run each mutant of the plan in a child."""
    if session.testsfailed:
        return None  # pytest says that the tests cannot be collected
    items = {item.nodeid: item for item in session.items}
    plan = json.loads(Path(os.environ["MUTATION_PLAN"]).read_text("utf-8"))
    if not os.environ.get("MUTANT_UNDER_TEST"):
        _warm_up(session)
    killers: dict[str, list[str]] = {}  # what noticed a module's mutants before is asked first, if it reaches this one
    for number, mutant in enumerate(plan, 1):
        before = killers.setdefault(mutant["name"].rpartition(".")[0], [])
        order = dict.fromkeys([*filter(set(mutant["tests"]).__contains__, before), *mutant["tests"]])
        own = [items[test] for test in order if test in items]
        if os.environ.get("MUTANT_UNDER_TEST"):
            session.items[:] = own
            return None
        folder, began = Path(tempfile.mkdtemp(prefix="mutant-")), time.monotonic()
        if (child := os.fork()) == 0:
            _become(mutant["name"], folder)
            session.items[:] = own
            return None  # pytest goes on, with these
        result, test = judge(_wait(child, seconds_for(mutant)), folder)
        if result == "failed" and test in items:
            before[:] = [test, *(other for other in before if other != test)]
        seconds = round(time.monotonic() - began, 1)
        outcome = Outcome(mutant["name"], mutant["hash"], result, test, seconds, alone=False)
        note(Path(os.environ["MUTATION_OUTCOMES"]), outcome)
        print(f"{number}/{len(plan)} {outcome.name} {result} {seconds} s", flush=True)
    return True


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Where a mutant is: say which test failed, and whether it was its time that ended."""
    if report.failed and (folder := os.environ.get("MUTATION_FOLDER")):
        stuck = "from pytest-timeout" in str(report.longrepr)
        _failed(Path(folder)).write_text(json.dumps(["stuck" if stuck else "failed", report.nodeid]), "utf-8")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(exitstatus: int) -> None:
    """End a child at once: to take the interpreter down takes longer than most tests."""
    if os.environ.get("MUTATION_FOLDER"):
        os._exit(exitstatus)


def judge(code: int, folder: Path) -> tuple[str, str | None]:
    """How the tests ended that wrote into this folder, and with which one. Removes the folder."""
    said = _failed(folder)
    result, test = json.loads(said.read_text("utf-8")) if said.exists() else ("failed", None)
    shutil.rmtree(folder, ignore_errors=True)
    if code in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return "lived", None
    return ("stuck" if code == TOO_LATE or code < 0 else result), test


def seconds_for(mutant: dict[str, Any]) -> float:
    """How long all its tests may take."""
    return float(LEAST_SECONDS + SLOWER * mutant["seconds"])


def environment_of(folder: Path) -> dict[str, str]:
    """What the tests of a mutant write is written there, and removed with it."""
    return {"MUTATION_FOLDER": str(folder), "PYTEST_DEBUG_TEMPROOT": str(folder), "TMPDIR": str(folder)}


def _warm_up(session: pytest.Session) -> None:
    """Import and build in the parent what almost every test needs: else each child takes 3 s for it."""
    for name in WARMS_UP:
        item = next((item for item in session.items if item.nodeid.startswith(name)), None)
        if item is not None:
            item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    gc.freeze()  # else each child looks through, and so copies, what is the parent's


def _failed(folder: Path) -> Path:
    return folder / "failed"


def _become(mutant: str, folder: Path) -> None:
    """Make this process the mutant's."""
    os.setsid()
    os.environ |= {"MUTANT_UNDER_TEST": mutant, **environment_of(folder)}
    tempfile.tempdir = None  # so that TMPDIR is read
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def _wait(child: int, seconds: float) -> int:
    """The child's exit code, or TOO_LATE. What it has started ends with it."""
    deadline, code = time.monotonic() + seconds, None
    while code is None and time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        code = os.waitstatus_to_exitcode(status) if done else None
        if not done:
            time.sleep(PAUSE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    if code is None:
        os.waitpid(child, 0)
    return TOO_LATE if code is None else code
