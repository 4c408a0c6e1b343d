"""Every shortcut of the protocol pages dies: a proof that the tests can see (fault 80)."""

from pathlib import Path

import pytest

from tests.races.explorer import Explorer, first_broken
from tests.races.switch import ALL, dies_of_its_test

EXPLORED = [name for name, mutant in ALL.items() if mutant.scene]
DECIDED = [name for name, mutant in ALL.items() if mutant.test]


@pytest.mark.parametrize("name", EXPLORED)
def test_explorer_finds_a_counterexample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """LAN-2 to LAN-20, CHK-6, SUB-30 to SUB-37: with the shortcut the same search that finds nothing finds a story."""
    mutant = ALL[name]
    assert mutant.scene is not None
    mutant.apply(monkeypatch)
    explorer = Explorer(tmp_path)
    found = first_broken(explorer, mutant.scene, seeds=300)
    explorer.close()
    assert found is not None, f"no interleaving shows what is wrong with this: {mutant.shortcut}"
    print(f"{mutant.shortcut}: run {found[0]}: {found[1]}")


@pytest.mark.parametrize("name", DECIDED)
def test_named_test_fails_with_the_shortcut(name: str) -> None:
    """LAN-2, LAN-4, LED-3, LED-5, LED-6, LED-8, WHK-13, WHK-42: in its own process, with the shortcut on."""
    assert dies_of_its_test(name), f"{ALL[name].shortcut}: {ALL[name].test} does not notice"
