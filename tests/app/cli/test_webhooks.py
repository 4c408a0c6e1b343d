"""`onelane webhooks setup` as an operator runs it, against a sandbox over HTTP."""

import json
from pathlib import Path

import pytest

from sandbox import Sandbox
from sandbox.server import running
from tests.support.running_dev import ROOT, onelane

URL = "https://app.example.com/webhooks/stripe"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    return tmp_path


def test_setup_shows_the_secret_once_and_then_nothing_to_do(folder: Path) -> None:
    """WHK-40, WHK-41; OPS-142: once there is a ledger."""
    with running(Sandbox()) as address:
        stripe = {"STRIPE_API_KEY": "sk_test_setup", "STRIPE_API_BASE": address}
        tried = onelane("webhooks", "setup", "--url", URL, "--dry-run", folder=folder, **stripe)
        assert tried.returncode == 0, tried.stderr
        assert "would be created" in tried.stdout
        made = onelane("webhooks", "setup", "--url", URL, "--json", folder=folder, **stripe)
        onelane("db", "upgrade", folder=folder)
        again = onelane("webhooks", "setup", "--url", URL, folder=folder, **stripe)
    shown = json.loads(made.stdout)
    assert (shown["action"], shown["secret"][:6]) == ("created", "whsec_")
    assert again.stdout.startswith(f"{shown['endpoint_id']}: unchanged")
    assert ("The audit log does not have it" in made.stderr, "audit" in again.stderr) == (True, False)
    noted, migrated = json.loads(onelane("audit", "list", "--json", folder=folder).stdout)
    assert migrated["command"] == "db upgrade"
    assert (noted["command"], noted["target"]) == ("webhooks setup", URL)
    assert noted["outcome"] == f"{shown['endpoint_id']} unchanged"
    for ended in (made, again):
        assert "whsec_" not in ended.stderr
    assert "whsec_" not in again.stdout


@pytest.mark.parametrize(
    ("words", "key", "code"),
    [
        (["--url", URL], "", 78),
        (["--url", "app.example.com"], "sk_test_setup", 2),
        ([], "sk_test_setup", 2),
        (["--url", URL], "sk_test_setup", 69),
    ],
    ids=["no key", "no address", "no url", "Stripe is away"],
)
def test_setup_that_cannot_be_done_says_why(words: list[str], key: str, code: int, folder: Path) -> None:
    """OPS-5"""
    stripe = {"STRIPE_API_KEY": key, "STRIPE_API_BASE": "http://127.0.0.1:1"}
    ended = onelane("webhooks", "setup", *words, folder=folder, **stripe)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
