"""The real checkout code under many interleavings, without any customer lock. `SEEDS=5000` explores more."""

import os
from pathlib import Path

import pytest

from tests.races.explorer import Explorer

SEEDS = int(os.environ.get("SEEDS", "160"))  # a seed takes about 70 ms
PARTS = 8  # so that two cores share the work


@pytest.mark.parametrize("part", range(PARTS))
def test_no_interleaving_breaks_the_invariants(tmp_path: Path, part: int) -> None:
    """LAN-1, LAN-2, LAN-3, LAN-5, LAN-7, LAN-9, LAN-10, LAN-18, CHK-1, CHK-6."""
    explorer = Explorer(tmp_path)
    for seed in range(part, SEEDS, PARTS):
        explorer.run(seed)
