"""A pytest plugin for `make mutation`: which tests reach which line of the changed code, and how long they take.

It begins before the imports: a line that runs then has the context '', which is no test's. Lines are counted from their
function's first, so that a change elsewhere in the file makes none of this untrue. Tests that fail are left out.
MUTATION_REACH names the file that it writes.
"""

import ast
import json
import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import coverage
import pytest

from tests.mutation.changes import PACKAGES, digest_of, functions_of

_FILES = [path for package in PACKAGES for path in sorted(Path("billing", package).glob("*.py"))]
_TREES = {str(path): ast.parse(path.read_text("utf-8")) for path in _FILES}
_seconds: dict[str, float] = defaultdict(float)
_failed: set[str] = set()
_cover = coverage.Coverage(data_file=None, include=list(_TREES))
_cover.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """What runs now is this test's."""
    _cover.switch_context(item.nodeid)
    return (yield)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _seconds[report.nodeid] += report.duration
    if not report.passed:
        _failed.add(report.nodeid)


def pytest_sessionfinish() -> None:
    _cover.stop()
    data = _cover.get_data()
    lines: dict[str, dict[int, list[str]]] = {}
    digests: dict[str, str] = {}
    for path, tree in _TREES.items():
        reached = data.contexts_by_lineno(str(Path(path).resolve()))
        for name, function in functions_of(tree):
            digests[f"{path}::{name}"] = digest_of(function)
            own = range(function.lineno, (function.end_lineno or function.lineno) + 1)
            lines[f"{path}::{name}"] = {
                line - function.lineno: sorted(set(reached[line]) - _failed) for line in own if line in reached
            }
    found = {
        "seconds": {test: _seconds[test] for test in _seconds if test not in _failed},
        "lines": lines,
        "digests": digests,
    }
    Path(os.environ["MUTATION_REACH"]).write_text(json.dumps(found), "utf-8")
    print(f"\nLeft out, since they failed or were skipped: {sorted(_failed)}"[:2000])
