"""docs/troubles.md says what the report says, and names commands that there are."""

import re
import shlex

from app.cli import main
from tests.docs.test_deployment import parse_command
from tests.support.running_dev import ROOT
from tests.support.troubles_world import SAID

TEXT = (ROOT / "docs" / "troubles.md").read_text("utf-8")
SECTIONS = re.split(r"^## ", TEXT, flags=re.MULTILINE)[1:]
MOST_BYTES = 60_000  # of a picture: eight of them are in every clone


def test_each_trouble_has_its_section_with_what_the_report_says() -> None:
    """CON-15, OPS-184"""
    for (name, said), section in zip(SAID.items(), SECTIONS, strict=True):
        assert f"](images/troubles/{name}.png)" in section
        assert said.partition(". The last")[0].replace("events were", "event was") in section


def test_pictures_are_small_and_each_is_shown() -> None:
    """CON-15"""
    pictures = {path.stem: path.stat().st_size for path in (ROOT / "docs/images/troubles").iterdir()}
    assert set(pictures) == set(SAID)
    assert max(pictures.values()) < MOST_BYTES, pictures


def test_commands_on_the_page_are_commands() -> None:
    """OPS-173"""
    found = re.findall(r"`(onelane [^`]+)`", TEXT)
    assert len(found) >= 2 * len(SECTIONS) - 1
    for line in found:
        parse_command(main.name or "onelane", shlex.split(line)[1:])
