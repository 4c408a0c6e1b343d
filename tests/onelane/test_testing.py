"""`onelane.testing` in somebody's project: the snippets of docs/testing.md, run by a pytest of their own."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

from tests.support.running_dev import ROOT, environment

SNIPPETS = re.findall(r"```python test=pytest\n(.+?)```", (ROOT / "docs" / "testing.md").read_text("utf-8"), re.DOTALL)
# As where it is installed; our own environment may be older than the entry point.
PYTEST = (
    sys.executable,
    "-P",
    "-m",
    "pytest",
    "-q",
    "-p",
    "no:onelane",
    "-p",
    "onelane.testing",
    "-p",
    "no:cacheprovider",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a catalog."""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    return tmp_path


def run(project: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Its tests."""
    return subprocess.run(
        [*PYTEST, *words],
        cwd=project,
        env=environment(PYTHONPATH=str(ROOT), STRIPE_API_KEY="sk_live_of_somebody"),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_snippets_of_the_page_pass(project: Path) -> None:
    """OPS-170"""
    (project / "tests").mkdir()
    for snippet in SNIPPETS:
        name = re.match(r'"""(tests/test_\w+\.py)"""', snippet)
        assert name
        (project / name[1]).write_text(snippet, "utf-8")

    done = run(project)

    assert done.returncode == 0, done.stdout
    assert f"{len(re.findall('def test_', ''.join(SNIPPETS)))} passed" in done.stdout


def test_each_test_begins_with_nobody_and_leaves_nothing_running(project: Path) -> None:
    """OPS-170"""
    (project / "test_twice.py").write_text(
        """
import threading
import pytest

@pytest.mark.parametrize("time", [1, 2])
def test_first_purchase(onelane, time):
    assert onelane.url and onelane.stripe_url
    onelane.pay(onelane.checkout("ann", "standard"))
    assert len(onelane.changes) == 1

def test_threads_have_ended():
    assert [one.name for one in threading.enumerate() if one.name.startswith(("sandbox", "group"))] == []
""",
        "utf-8",
    )
    done = run(project)
    assert done.returncode == 0, done.stdout


def test_mistake_of_a_test_is_said_in_words(project: Path) -> None:
    """OPS-240"""
    (project / "test_mistakes.py").write_text(
        """
import pytest

def test_plan_that_is_not_sold(onelane):
    with pytest.raises(ValueError, match="no page to pay on.* /plan is not sold here; the plans are standard, commit"):
        onelane.pay(onelane.checkout("ann", "monthly"))

def test_buyer_without_a_card(onelane):
    with pytest.raises(ValueError, match="ann has no card"):
        onelane.bank_says("ann", "insufficient_funds")
""",
        "utf-8",
    )
    done = run(project)
    assert done.returncode == 0, done.stdout


def test_own_package_with_a_name_of_ours_is_named(project: Path) -> None:
    """OPS-170"""
    (project / "billing").mkdir()
    (project / "billing" / "__init__.py").touch()
    (project / "conftest.py").touch()
    (project / "test_it.py").write_text("def test_it(onelane): pass\n", "utf-8")
    done = subprocess.run(
        [*PYTEST, "--import-mode=prepend"],
        cwd=project,
        env=environment(PYTHONPATH=f"{project}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout
    assert f"The package billing at {project}" in done.stdout


def test_plugin_is_found_where_onelane_is_installed() -> None:
    """OPS-170"""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    module = import_module(project["entry-points"]["pytest11"]["onelane"])
    assert callable(module.pytest_addoption)
    assert module.onelane.__name__ == "onelane"
