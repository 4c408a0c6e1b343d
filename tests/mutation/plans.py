"""Which tests can notice a mutant: those that reach the statement that it changes, quickest first."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.mutation.changes import FOLDER, Change, read_change


def read_hashes() -> dict[str, str]:
    """Every mutant that mutmut wrote, with the hash of the function that it changes."""
    hashes: dict[str, str] = {}
    for meta in sorted(FOLDER.rglob("*.meta")):
        known = json.loads(meta.read_text("utf-8"))
        for name in known["exit_code_by_key"]:
            function = name.rpartition("__mutmut_")[0].rpartition(".")[2]
            hashes[name] = known["hash_by_function_name"].get(function, "")
    return hashes


# Hundreds of tests reach some statements: so many seconds of them are asked, all of them where a mutant is run again.
MOST_SECONDS = 8.0
QUICK_SECONDS = 0.3  # without a database


class Reach:
    """What the plugin `reach` found: the tests that run each line. One that runs at import has '' among them."""

    def __init__(self, path: Path) -> None:
        found = json.loads(path.read_text("utf-8"))
        self._seconds: dict[str, float] = found["seconds"]
        self._lines: dict[str, dict[str, list[str]]] = found["lines"]
        self._digests: dict[str, str] = found["digests"]

    def runs_at_import(self, change: Change) -> bool:
        """Whether a process that had the mutant from its imports on could end otherwise."""
        return "" in self._of_statement(change)

    def plan(self, name: str, digest: str, *, of_module: bool = False, every: bool = False) -> dict[str, Any]:
        """What the process that runs a mutant has to know: its tests, and how long all of them take.

        Where the function is newer than what is known of its lines, it is those of the whole function.
        """
        change = read_change(name)
        tests: list[str] = []
        seconds = 0.0
        for test in self._ordered((self._of_module(change) if of_module else self._of_statement(change)) - {""}):
            if tests and seconds + self._seconds[test] > MOST_SECONDS and not every:
                break
            tests.append(test)
            seconds += self._seconds[test]
        return {"name": name, "hash": digest, "tests": tests, "seconds": seconds}

    def _ordered(self, tests: set[str]) -> list[str]:
        """The quickest first; of those that take longer, one case of each test before the second one of any."""
        cases: Counter[str] = Counter()
        ranked: list[tuple[int, str]] = []
        for test in sorted(tests, key=self._seconds.__getitem__):
            of = test.partition("[")[0]
            ranked.append((cases[of] if self._seconds[test] > QUICK_SECONDS else 0, test))
            cases[of] += 1
        return [test for _, test in sorted(ranked, key=lambda each: each[0])]

    def _of_statement(self, change: Change) -> set[str]:
        name = f"{change.module}::{change.function}"
        known = self._lines.get(name, {})
        lines = map(str, change.lines) if self._digests.get(name) == change.digest else known
        return {test for line in lines for test in known.get(line, ())}

    def _of_module(self, change: Change) -> set[str]:
        parts = [known for name, known in self._lines.items() if name.startswith(f"{change.module}::")]
        return {test for known in parts for tests in known.values() for test in tests}
