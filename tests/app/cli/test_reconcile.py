"""`onelane reconcile` as an operator runs it, against a sandbox over HTTP."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app.cli import reconcile
from app.cli.reconcile import Progress
from billing.database import Database
from sandbox import Sandbox
from sandbox.server import running
from tests.support.reconcile_world import Shop
from tests.support.running_dev import onelane


@pytest.fixture
def settings() -> Iterator[dict[str, str]]:
    """Settings of a sandbox in which a customer with two events was made five minutes ago."""
    sandbox = Sandbox()
    made = sandbox.request("POST", "/v1/customers", {"email": "ann@example.com"}).body["id"]
    sandbox.request("POST", f"/v1/customers/{made}", {"name": "Ann"})
    sandbox.advance(300)
    with running(sandbox) as address:
        yield {"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": address, "REDIS_URL": "redis://127.0.0.1:1/0"}


def shown(*words: str, folder: Path, settings: dict[str, str]) -> dict[str, Any]:
    ended = onelane("reconcile", "--json", *words, folder=folder, **settings)
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    return answer


def test_dry_run_then_run_then_nothing_left(folder: Path, settings: dict[str, str]) -> None:
    """WHK-47, WHK-42: also with Redis away, since a message is only a wake-up."""
    tried = shown("--dry-run", "--since", "1h", folder=folder, settings=settings)
    assert (tried["found"], tried["dry_run"]) == (1, True)
    done = shown("--reason", "an outage", folder=folder, settings=settings)
    assert (done["found"], done["finished"], done["gap"]) == (1, True, False)
    again = onelane("reconcile", "--full", folder=folder, **settings)
    assert again.returncode == 0, again.stderr
    assert "1 event since" in again.stdout
    assert "0 were never delivered" in again.stdout
    listed = json.loads(onelane("events", "list", "--json", folder=folder).stdout)
    assert [event["type"] for event in listed] == ["customer.updated"]


def test_command_stands_behind_buyers(database: Database) -> None:
    """WHK-61: its calls are none of a buyer's, for whom a part of the budget is kept."""
    shop = Shop(database)
    places = {name: getattr(shop, name) for name in ("database", "locks", "queue", "clock", "catalog")}
    places["stripe"] = SimpleNamespace(low_priority=lambda: shop.stripe)  # and nothing else
    how: dict[str, Any] = {"since": None, "full": True, "dry": False, "stop": lambda: False, "progress": Progress()}
    row = reconcile._run(SimpleNamespace(**places), **how)  # type: ignore[arg-type]
    assert not row.unfinished


@pytest.mark.parametrize(
    ("words", "instead", "code"),
    [
        ([], {"STRIPE_API_KEY": ""}, 78),
        ([], {"DATABASE_URL": "sqlite:///empty.sqlite3"}, 78),
        ([], {"STRIPE_API_BASE": "http://127.0.0.1:1"}, 69),
        (["--since", "yesterday"], {}, 2),
        (["--since", "800d"], {}, 0),
    ],
    ids=["no key", "no tables", "Stripe is away", "no time", "longer than Stripe keeps events"],
)
def test_it_ends_with_a_code_that_says_what_is_wrong(
    words: list[str], instead: dict[str, str], code: int, folder: Path, settings: dict[str, str]
) -> None:
    """OPS-5"""
    ended = onelane("reconcile", *words, folder=folder, **{**settings, **instead})
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr


def test_key_of_another_account_is_refused_before_anything_is_compared(folder: Path, settings: dict[str, str]) -> None:
    """LED-9: with it, every customer would look gone."""
    shown(folder=folder, settings=settings)
    with running(Sandbox(account="acct_another")) as address:
        ended = onelane("reconcile", "--full", folder=folder, **{**settings, "STRIPE_API_BASE": address})
    assert ended.returncode == 78, ended.stderr
    assert "acct_another" in ended.stderr
