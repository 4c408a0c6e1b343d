"""The specifications and the tests hold each other: every requirement has a test, every cited id is a requirement."""

import re
from collections import Counter
from pathlib import Path

from tests.races.switch import ALL

ROOT = Path(__file__).parents[2]
HEAD = re.compile(r"^(?:[-*] )?\*\*([A-Z]{3}-\d+)\*\*", re.MULTILINE)  # elsewhere an id is only mentioned
CITED_IN = ("app", "worker", "billing", "sandbox", "onelane", "tests", "specs", "docs")
SUFFIXES = {".py", ".md", ".html", ".js", ".css"}
PAGES = sorted([*(ROOT / "specs").glob("*.md"), *(ROOT / "docs" / "examples").glob("*.md")])


def requirements() -> dict[str, str]:
    """The sentence of each id."""
    found: dict[str, str] = {}
    for page in PAGES:
        # A requirement ends at the next list item, heading or empty line.
        for block in re.split(r"\n(?=\s*[-#*|])|\n\s*\n", page.read_text("utf-8")):
            if head := HEAD.match(block.lstrip()):
                found[head[1]] = " ".join(block.lstrip()[head.end() :].split())
    return found


REQUIREMENTS = requirements()
PREFIXES = {name.split("-")[0] for name in REQUIREMENTS}
CITATION = re.compile(rf"\b((?:{'|'.join(sorted(PREFIXES))})-\d+)\b")


def citations(*folders: str) -> dict[str, set[str]]:
    """The ids that are cited, each with the files that do."""
    found: dict[str, set[str]] = {}
    for folder in folders:
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in SUFFIXES and path.name != Path(__file__).name:
                for name in CITATION.findall(path.read_text("utf-8")):
                    found.setdefault(name, set()).add(str(path.relative_to(ROOT)))
    return found


def test_there_are_requirements() -> None:
    assert len(REQUIREMENTS) > 50


def test_every_requirement_is_cited_by_a_test() -> None:
    cited = citations("tests")
    assert sorted(set(REQUIREMENTS) - set(cited), key=in_order) == []


def test_every_cited_id_is_a_requirement() -> None:
    unknown = {name: files for name, files in citations(*CITED_IN).items() if name not in REQUIREMENTS}
    assert unknown == {}


def test_no_id_stands_for_two_requirements() -> None:
    heads = Counter(name for page in PAGES for name in HEAD.findall(page.read_text("utf-8")))
    assert [name for name, count in heads.items() if count > 1] == []


def test_every_requirement_has_one_must_in_two_sentences_at_most() -> None:
    wrong = {
        name: text
        for name, text in REQUIREMENTS.items()
        if len(re.findall(r"\bMUST\b", text)) != 1
        or not text.endswith(".")
        or len(re.findall(r"[\w`)]\. [A-Z`]", text)) > 1
    }
    assert wrong == {}


def in_order(name: str) -> tuple[str, int]:
    prefix, number = name.split("-")
    return prefix, int(number)


def test_each_decision_has_a_number_of_its_own() -> None:
    """By its number a decision is spoken of; its heading says the same one."""
    pages = sorted((ROOT / "specs" / "decisions").glob("[0-9]*.md"))
    numbers = Counter(page.name[:4] for page in pages)
    assert not [number for number, times in numbers.items() if times > 1]
    assert not [page.name for page in pages if not page.read_text("utf-8").startswith(f"# {page.name[:4]} ")]


def test_test_of_every_shortcut_is_there() -> None:
    """LAN-2: one that has moved would look like one that does not notice."""
    for name, mutant in ALL.items():
        if mutant.test:
            path, function = mutant.test.split("[")[0].rsplit("::", 1)
            assert f"def {function}(" in (ROOT / path).read_text("utf-8"), f"{name}: {mutant.test}"
