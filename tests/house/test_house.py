"""The house rules, kept by the test run: lint, format, types, import directions, pinned dependencies."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.conftest import LONG, ONE_WORKER, SHORT

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# Put together here, so that this file does not name what it forbids.
INDEX_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("registry", "npmjs"),
        ("conda", "anaconda"),
        ("proxy", "golang"),
        ("crates", "io"),
        ("rubygems", "org"),
    )
)
MACHINE_PATHS = tuple(
    f"/{first}/{rest}" for first, rest in (("work", "main"), ("work", "shared"), ("tmp", "lab"), ("home", ""))
)
INDEX_OPTIONS = re.compile(r"--(?:extra-)?index-url|--find-links|--trusted-host|^-i ", re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "--quiet", "."],
        ["ruff", "format", "--check", "--quiet", "."],
        ["mypy", "--no-error-summary"],
        ["lint-imports", "--no-logo"],
    ],
    ids=["lint", "format", "types", "imports"],
)
def test_house_rule_holds(command: list[str]) -> None:
    done = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_committed_file_names_a_package_index_or_a_path_of_one_machine() -> None:
    """OPS-21"""
    found = []
    for path in committed_files():
        text = path.read_bytes().decode("utf-8", "replace")
        found += [f"{path.relative_to(ROOT)}: {word}" for word in (*INDEX_HOSTS, *MACHINE_PATHS) if word in text]
        if path.suffix == ".lock" and INDEX_OPTIONS.search(text):
            found.append(f"{path.relative_to(ROOT)}: an index option")
    assert found == []


def test_what_is_left_to_make_check_or_kept_together_is_there() -> None:
    """A test that is renamed would be run by `make test` again, or beside what it disturbs."""
    for name in (*LONG, *SHORT, *ONE_WORKER):
        path, _, test = name.partition("::")
        assert (ROOT / path).exists(), name
        assert not test or f"def {test.partition('[')[0]}" in (ROOT / path).read_text("utf-8"), name


LOCKS = ["requirements.lock", "requirements-dev.lock", "tests/mutation/requirements.lock"]


@pytest.mark.parametrize("name", LOCKS)
def test_everything_in_a_lock_file_is_pinned_with_hashes(name: str) -> None:
    """OPS-21"""
    text = (ROOT / name).read_text("utf-8")
    assert "://" not in text
    entries = entries_of(text)
    assert len(entries) > 20
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ;\\]+", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_both_lock_files_agree_and_hold_what_the_project_asks_for() -> None:
    """OPS-21"""
    running, development = (
        pins_of((ROOT / name).read_text("utf-8")) for name in ("requirements.lock", "requirements-dev.lock")
    )
    assert {name: version for name, version in development.items() if name in running} == running
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in project["dependencies"]}
    assert asked <= set(running)
    extras = {normal(re.split(r"[\[<>=!~; ]", line)[0]) for line in project["optional-dependencies"]["dev"]}
    assert extras <= set(development)


def committed_files() -> list[Path]:
    """What git would commit; every file outside the folders of .gitignore where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"], cwd=ROOT, capture_output=True
    )
    if listed.returncode == 0:
        paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    else:
        paths = [path for path in ROOT.rglob("*") if not {".venv", "var", "__pycache__", ".git"} & set(path.parts)]
    return [path for path in paths if path.is_file()]


def entries_of(lock: str) -> list[str]:
    lines = "\n".join(line for line in lock.splitlines() if not line.lstrip().startswith("#"))
    return [entry.strip() for entry in re.sub(r"\\\n\s*", " ", lines).splitlines() if entry.strip()]


def pins_of(lock: str) -> dict[str, str]:
    pairs = (re.split(r"==|[ ;]", entry)[:2] for entry in entries_of(lock))
    return {normal(name): version for name, version in pairs}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
