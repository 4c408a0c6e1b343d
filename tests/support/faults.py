"""The table of faults in `docs/faults.md`, made from the tests: `python -m tests.support.faults` writes it.

A test cites a row in its docstring: `faults row 52`, `faults rows 9 to 18, 20 and 21`. What a row says, and why
no test cites it, stands in `tests/support/faults.toml`.
"""

import ast
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
_NUMBERS = r"\d+(?:\s+to\s+\d+)?"
_CITATION = re.compile(rf"\bfaults?(?:\s+rows?)?\s+({_NUMBERS}(?:(?:\s*,\s*|\s+and\s+){_NUMBERS})*)", re.IGNORECASE)
_HEAD = """\
# Faults

What may go wrong or be sent with bad intent, what must come out, and the tests that show it. Made from the tests'
docstrings by `python -m tests.support.faults`; do not edit.

| | fault | what comes out | tests |
|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One fault. `untested` says why no test cites it."""

    number: int
    fault: str
    outcome: str
    untested: str | None


def rows() -> list[Row]:
    """All rows in order."""
    data = tomllib.loads((ROOT / "tests" / "support" / "faults.toml").read_text("utf-8"))
    untested = data["untested"]
    return [Row(int(name), *texts, untested.get(name)) for name, texts in data["rows"].items()]


def numbers_in(docstring: str) -> set[int]:
    """The rows that a docstring cites."""
    found: set[int] = set()
    for citation in _CITATION.findall(docstring):
        for first, last in re.findall(r"(\d+)(?:\s+to\s+(\d+))?", citation):
            found |= set(range(int(first), int(last or first) + 1))
    return found


def citations() -> dict[int, list[str]]:
    """For each row the tests that cite it, as `tests/app/test_auth.py::test_…`; a whole file by its path."""
    found: dict[int, list[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for name, docstring in _docstrings(ast.parse(path.read_text("utf-8"))):
            for number in numbers_in(docstring):
                found.setdefault(number, []).append(f"{path.relative_to(ROOT).as_posix()}{name}")
    return found


def page() -> str:
    """The page as it has to be."""
    cited = citations()
    lines = [
        f"| {row.number} | {row.fault} | {row.outcome} | {_shown(cited.get(row.number, []), row.untested)} |\n"
        for row in rows()
    ]
    return _HEAD + "".join(lines)


def _docstrings(tree: ast.Module) -> Iterator[tuple[str, str]]:
    yield "", ast.get_docstring(tree) or ""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            yield f"::{node.name}", ast.get_docstring(node) or ""
        # A state machine of hypothesis, or a class of tests.
        if isinstance(node, ast.ClassDef):
            yield f"::{node.name}", ast.get_docstring(node) or ""


def _shown(tests: list[str], untested: str | None) -> str:
    if not tests:
        return f"none: {untested}"
    return "<br>".join(f"[{one.rpartition('/')[2]}](../{one.partition('::')[0]})" for one in tests)


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
