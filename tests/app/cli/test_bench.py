"""`onelane bench` from a checkout, and where there is none."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from app.cli import bench


def test_bench_hands_its_arguments_to_the_benchmarks_and_ends_as_they_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-5: the contract's command is that of `make bench`."""
    package = tmp_path / "tests" / "bench"
    package.mkdir(parents=True)
    (tmp_path / "tests" / "__init__.py").touch()
    (package / "__init__.py").touch()
    said = tmp_path / "said"
    (package / "__main__.py").write_text(
        f"import sys\nfrom pathlib import Path\nPath({str(said)!r}).write_text(' '.join(sys.argv[1:]))\nsys.exit(3)\n"
    )
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    assert CliRunner().invoke(bench.bench, ["receiver", "4", "--rounds", "2"]).exit_code == 3
    assert said.read_text() == "receiver 4 --rounds 2"


def test_bench_of_an_installed_onelane_says_where_the_benchmarks_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-5"""
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    done = CliRunner().invoke(bench.bench, [])
    assert done.exit_code == 69
    assert "checkout of the project" in done.stderr
