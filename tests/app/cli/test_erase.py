"""`onelane customers erase` as an operator runs it, against a sandbox over HTTP."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from billing.clock import SystemClock
from billing.customers import store as customers_store
from billing.customers.customers import claim_customer
from billing.database import Database
from sandbox import Sandbox
from sandbox.server import running
from tests.support.running_dev import onelane


@pytest.fixture
def sandbox() -> Sandbox:
    return Sandbox()


@pytest.fixture
def customer(sandbox: Sandbox) -> str:
    return str(sandbox.request("POST", "/v1/customers", {"email": "ann@example.com"}).body["id"])


@pytest.fixture
def folder(folder: Path, customer: str) -> Path:
    """A folder with a catalog and a ledger in which ann has a customer and bob never bought."""
    ledger = Database(f"sqlite:///{folder}/var/ledger.sqlite3")
    claim_customer("ann", customer, database=ledger, clock=SystemClock())
    with ledger.write() as connection:
        customers_store.open_customer(connection, user_id="bob", email="bob@example.com", now=SystemClock().now())
    ledger.close()
    return folder


@pytest.fixture
def settings(sandbox: Sandbox) -> Iterator[dict[str, str]]:
    with running(sandbox) as address:
        yield {"STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": address, "REDIS_URL": "redis://127.0.0.1:1/0"}


def test_look_then_erase_then_nothing_is_left(folder: Path, settings: dict[str, str]) -> None:
    """SUB-50: counted first; the reason is in the log, the address is not."""
    looked = onelane("customers", "erase", "bob", "--dry-run", folder=folder, **settings)
    assert (looked.returncode, "1 email" in looked.stdout) == (0, True), looked.stderr
    done = onelane("customers", "erase", "bob", "--reason", "a letter", "--yes", folder=folder, **settings)
    assert (done.returncode, "Erased: 1 email." in done.stdout) == (0, True), done.stderr
    assert '"reason":"a letter"' in done.stderr.replace(": ", ":")
    assert "example.com" not in done.stdout + done.stderr
    again = onelane("customers", "erase", "bob", "--reason", "a letter", "--yes", folder=folder, **settings)
    assert (again.returncode, "nothing personal" in again.stdout) == (0, True), again.stderr


def test_customer_at_stripe_goes_when_asked_for(
    folder: Path, settings: dict[str, str], sandbox: Sandbox, customer: str
) -> None:
    """SUB-56"""
    words = ["customers", "erase", "ann", "--delete-at-stripe"]
    assert "deleted at Stripe" in onelane(*words, "--dry-run", folder=folder, **settings).stdout
    done = onelane(*words, "--reason", "a letter", "--yes", folder=folder, **settings)
    assert done.returncode == 0, done.stderr
    assert sandbox.request("GET", f"/v1/customers/{customer}").body["deleted"] is True


def test_subscriber_is_refused_in_one_sentence(
    folder: Path, settings: dict[str, str], sandbox: Sandbox, customer: str
) -> None:
    """SUB-52, also to somebody who only looks."""
    recurring = {"currency": "usd", "unit_amount": 0, "recurring": {"interval": "month"}}
    price = sandbox.request("POST", "/v1/prices", {**recurring, "product_data": {"name": "x"}}).body["id"]
    made = {"customer": customer, "items": [{"price": price}], "metadata": {"type": "kiloclaw"}}
    subscription = sandbox.request("POST", "/v1/subscriptions", made).body["id"]
    for words in (["--dry-run"], ["--reason", "a letter", "--yes"]):
        ended = onelane("customers", "erase", "ann", *words, folder=folder, **settings)
        assert ended.returncode == 1, ended.stderr
        assert subscription in ended.stdout + ended.stderr
        assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("words", "instead", "code"),
    [
        (["bob", "--reason", "x", "--yes"], {"STRIPE_API_KEY": ""}, 78),
        (["bob", "--reason", "x", "--yes"], {"DATABASE_URL": "sqlite:///empty.sqlite3"}, 78),
        (["bob", "--reason", "x", "--yes"], {"STRIPE_API_BASE": "http://127.0.0.1:1"}, 69),
        (["bob", "--yes"], {}, 2),
        (["bob", "--reason", "x"], {}, 2),
        (["nobody", "--reason", "x", "--yes"], {}, 1),
    ],
    ids=["no key", "no tables", "Stripe is away", "no reason", "nobody to ask", "unknown"],
)
def test_it_ends_with_a_code_that_says_what_is_wrong(
    words: list[str], instead: dict[str, str], code: int, folder: Path, settings: dict[str, str]
) -> None:
    """OPS-5"""
    ended = onelane("customers", "erase", *words, folder=folder, **{**settings, **instead})
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
