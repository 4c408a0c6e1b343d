"""docs/subscriptions.md: each part stands on requirements that exist, and so on tests."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "subscriptions.md").read_text("utf-8")
PARTS = dict(re.findall(r"^## (.+?)\n(.+?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
KNOWN = {
    id_
    for path in (ROOT / "specs").glob("*.md")
    for id_ in re.findall(r"\*\*([A-Z]+-\d+)\*\*", path.read_text("utf-8"))
}


@pytest.mark.parametrize("part", PARTS)
def test_each_part_names_the_requirements_it_stands_on(part: str) -> None:
    """A page without tests says what nobody checked."""
    cited = set(re.findall(r"\b(?:SUB|CHK)-\d+\b", PARTS[part]))
    assert cited
    assert cited <= KNOWN
