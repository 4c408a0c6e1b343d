"""Settings that make no sense, found only when something is opened with them: refused before anything starts."""

from pathlib import Path

import pytest

from tests.support.ports import own_port
from tests.support.running_dev import ROOT, onelane

NONSENSE = {
    "DATABASE_URL": ["nonsense", "mysql://host/ledger", "sqlite:////proc/nowhere/ledger", "sqlite:////"],
    "REDIS_URL": ["nonsense", "http://host/"],
    "CELERY_BROKER_URL": ["nonsense", "http://host/"],
    "CATALOG": ["/nowhere/catalog.toml"],
}


@pytest.mark.parametrize("command", ["dev", "web"])
@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NONSENSE.items() for value in values])
def test_nonsense_stops_the_start_with_one_line_that_names_it(
    tmp_path: Path, command: str, name: str, value: str
) -> None:
    """OPS-1"""
    if value.startswith("sqlite:////proc") and not Path("/proc").exists():
        pytest.skip("no folder here that nobody can write to")
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    refused = onelane(command, folder=tmp_path, PORT=str(own_port()), **{name: value})
    assert refused.returncode == 78, refused.stdout + refused.stderr
    assert refused.stdout == "", "nothing was started"
    assert len(refused.stderr.splitlines()) == 1, refused.stderr
    assert refused.stderr.startswith(f"onelane: {name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/ledger"),
        ("REDIS_URL", "redis://127.0.0.1:1/0"),
        ("CELERY_BROKER_URL", "redis://127.0.0.1:1/0"),
    ],
)
def test_given_server_that_does_not_answer_is_named_before_anything_starts(
    tmp_path: Path, name: str, value: str
) -> None:
    """OPS-5, OPS-13"""
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    refused = onelane("dev", folder=tmp_path, PORT=str(own_port()), **{name: value})
    assert refused.returncode == 69, refused.stdout + refused.stderr
    assert refused.stdout == "", "nothing was started"
    assert refused.stderr.startswith(f"onelane: {name}: ")
    assert len(refused.stderr.splitlines()) == 1
