"""The migrations are one line, numbered by their files: two that were written at the same time are noticed at once."""

from itertools import pairwise
from pathlib import Path

from billing.database.migrations import versions

FOLDER = Path(str(versions.__file__)).parent


def test_each_migration_follows_the_one_before_it() -> None:
    """LED-15"""
    files = sorted(FOLDER.glob("[0-9]*.py"))
    numbers = [path.name[:4] for path in files]
    assert numbers == [f"{number:04}" for number in range(1, len(files) + 1)]
    for before, path in pairwise(files):
        text = path.read_text("utf-8")
        assert f'\nrevision = "{path.name[:4]}"\ndown_revision = "{before.name[:4]}"\n' in text, path.name
