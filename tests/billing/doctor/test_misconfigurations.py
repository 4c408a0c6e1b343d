"""Installations that are set up wrongly, each in one way: `onelane doctor` names it with its fix (issue 15, part 5)."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from billing.coordination.jobs import QUEUES
from billing.coordination.queue import InlineQueue
from billing.database import Database
from billing.doctor import servers
from billing.doctor.finding import Finding, Verdict
from billing.doctor.redis import judge_redis
from billing.errors import ConfigurationError, InvalidSignature
from billing.operators import causes
from billing.operators.installation import insert_first
from billing.operators.presence import Heartbeat
from billing.process.settings import Settings, load_settings
from billing.stripe_gateway import API_VERSION
from billing.webhooks.ingest import Ingest
from tests.support.builders import CATALOG, SECRET, MovableClock, build_event, deliver
from tests.support.databases import sqlite_in
from tests.support.doctor_world import KEY, URL, Place
from tests.support.running_dev import ROOT
from tests.support.valkey import Valkey

OK, WARNING, UNAVAILABLE, WRONG = Verdict
NOBODY = "127.0.0.1:1"  # a port on which nothing listens


@pytest.fixture
def place(tmp_path: Path, valkey: Valkey, client: "redis.Redis", monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """In a folder of its own, without the settings of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    with sqlite_in(tmp_path) as database:
        ledger = str(database.url)
        Heartbeat(database, kind="worker", queues=QUEUES).beat()
        Heartbeat(database, kind="beat").beat()
    given = {
        "DATABASE_URL": ledger,
        "REDIS_URL": valkey.url,
        "STRIPE_API_KEY": KEY,
        "STRIPE_WEBHOOK_SECRETS": "whsec_" + "a" * 32,
        "AUTH_JWT_SECRET": "0123456789abcdef" * 2,
        "REDIRECT_ORIGINS": "https://app.example.com",
    }
    yield Place(tmp_path, client, monkeypatch, given)
    client.config_set("maxmemory-policy", "noeviction")
    client.config_set("appendonly", "yes")


def _other_account(place: Place) -> None:
    ledger = Database(place.environment["DATABASE_URL"])
    with ledger.write() as connection:
        insert_first(connection, stripe_account="acct_other", livemode=False, bound_at=place.clock.now())
    ledger.close()


def _no_tables(place: Place) -> None:
    place.put(DATABASE_URL=f"sqlite:///{place.folder}/empty.sqlite3")


def _misspelt(place: Place) -> None:
    place.put(STRIPE_WEBHOOK_SECRET=place.environment.pop("STRIPE_WEBHOOK_SECRETS"))


def _clock_ahead(place: Place) -> None:
    place.local = MovableClock(place.clock.time)
    place.clock.advance(seconds=-400)


def _other_currency(place: Place) -> None:
    customer = place.at_stripe("customers")["id"]
    place.at_stripe(f"customers/{customer}/balance_transactions", amount="-100", currency="eur")
    ledger = Database(place.environment["DATABASE_URL"])
    with ledger.write() as connection:
        connection.exec_driver_sql(
            "INSERT INTO customers (user_id, customer_id, idempotency_key, parameters, created_at)"
            f" VALUES ('ann', '{customer}', 'k', '{{}}', '2026-06-01')"
        )
    ledger.close()


def _change_ledger(place: Place, *statements: str) -> None:
    ledger = Database(place.environment["DATABASE_URL"])
    with ledger.write() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    ledger.close()


def _secret_rolled(place: Place) -> None:
    """Deliveries come, and the last ones are signed by a secret that is not ours."""
    ledger = Database(place.environment["DATABASE_URL"])
    places: Any = {"database": ledger, "queue": InlineQueue(), "clock": place.clock, "max_bytes": 1 << 20}
    ingest = Ingest(secrets=[SECRET], **places)
    for secret in (SECRET, "whsec_" + "n" * 32):
        body, header = deliver(build_event(), secret=secret, at=place.clock.now())
        with suppress(InvalidSignature):
            ingest.submit(body, ingest.expect(len(body), header)).result(10)
    ingest.close()
    Heartbeat(ledger, kind="web").beat()
    ledger.close()


def _older_worker(place: Place) -> None:
    ledger = Database(place.environment["DATABASE_URL"])
    Heartbeat(ledger, kind="worker", name="left over", queues=QUEUES).beat()
    with ledger.write() as connection:
        connection.exec_driver_sql("UPDATE processes SET version = '0.0.9' WHERE name = 'left over'")
    ledger.close()


Prepare = Callable[[Place], object]
SET_UP_WRONGLY: dict[str, tuple[Prepare, Verdict, str, str]] = {
    # what is done, the verdict, what is said of it, and the fix
    "no key": (lambda place: place.drop("STRIPE_API_KEY"), WRONG, "STRIPE_API_KEY is not set", "Set it"),
    "published key": (
        lambda place: place.put(STRIPE_API_KEY="pk_test_" + "5" * 30),
        WRONG, "STRIPE_API_KEY: is a publishable key", "take the secret one",
    ),
    "key that was cut off": (
        lambda place: place.put(STRIPE_API_KEY="sk_test_51H"), WRONG, "a part is missing", "Copy it again, whole"
    ),
    "no key at all": (
        lambda place: place.put(STRIPE_API_KEY="prod_1"), WRONG, "STRIPE_API_KEY is no key", "begins with rk_ or sk_"
    ),
    "key of the other mode": (
        lambda place: place.put(STRIPE_LIVEMODE="true"), WRONG, "STRIPE_LIVEMODE", "Set both to the same mode"
    ),
    "key of another account": (
        _other_account, WRONG, "but this ledger to acct_other", "Set STRIPE_API_KEY to a key of that account"
    ),
    "key without a permission": (
        lambda place: place.sandbox.restrict(KEY, ["accounts_kyc_basic_read"]),
        WRONG, "does not let STRIPE_API_KEY do GET /v1/prices/{id}", "SECURITY.md lists what it needs",
    ),
    "misspelt name": (_misspelt, WARNING, "STRIPE_WEBHOOK_SECRET is read by nobody", "mean STRIPE_WEBHOOK_SECRETS?"),
    "another program's name": (
        lambda place: place.put(STRIPE_SECRET_KEY=place.environment.pop("STRIPE_API_KEY")),
        WARNING, "STRIPE_SECRET_KEY is read by nobody", "Did you mean STRIPE_API_KEY?",
    ),
    "secret of the wrong length": (
        lambda place: place.put(STRIPE_WEBHOOK_SECRETS="whsec_" + "a" * 20),
        WRONG, "STRIPE_WEBHOOK_SECRETS: secret 1 has 26 characters", "Copy it again, whole",
    ),
    "endpoint's id for its secret": (
        lambda place: place.put(STRIPE_WEBHOOK_SECRETS="whsec_" + "a" * 32 + ",we_1"),
        WRONG, "STRIPE_WEBHOOK_SECRETS: secret 2 does not begin", "Set the endpoint's signing secret",
    ),
    "no way to know buyers": (
        lambda place: place.drop("AUTH_JWT_SECRET"), WRONG, "AUTH_JWT_SECRET or AUTH_JWKS_URL", "is not set. Set it"
    ),
    "key of a server that can be guessed": (
        lambda place: place.put(AUTH_API_KEYS="hunter2"), WRONG, "AUTH_API_KEYS has one", "Set AUTH_API_KEYS to random"
    ),
    "no redirect origins": (
        lambda place: place.drop("REDIRECT_ORIGINS"), WRONG, "REDIRECT_ORIGINS is not set", "Set it"
    ),
    "secret's file is gone": (
        lambda place: place.put(STRIPE_API_KEY_FILE="gone", STRIPE_API_KEY=""),
        WRONG, "STRIPE_API_KEY_FILE cannot be read", "Set it to the path of a readable text file",
    ),
    "database of another kind": (
        lambda place: place.put(DATABASE_URL="mysql://host/name"), WRONG, "DATABASE_URL", "Set"
    ),
    "database that does not answer": (
        lambda place: place.put(DATABASE_URL=f"postgresql://x@{NOBODY}/x"),
        UNAVAILABLE, "DATABASE_URL: nobody listens", "set another DATABASE_URL",
    ),
    "ledger without tables": (_no_tables, WRONG, "(DATABASE_URL) lacks", "Run `onelane db upgrade`"),
    "full disk": (
        lambda place: place.patch.setattr(causes, "FULL_MEGABYTES", 10**12), WRONG, "writing fails soon", "Make room"
    ),
    "narrow disk": (
        lambda place: place.patch.setattr(servers, "NARROW_MEGABYTES", 10**12), WARNING, "(DATABASE_URL)", "Make room"
    ),
    "Redis that does not answer": (
        lambda place: place.put(REDIS_URL=f"redis://{NOBODY}/0"), UNAVAILABLE, "REDIS_URL: the server", "Start it"
    ),
    "Redis that drops keys": (
        lambda place: place.redis.config_set("maxmemory-policy", "allkeys-lru"),
        WRONG, "REDIS_URL: maxmemory-policy is allkeys-lru", "Set noeviction",
    ),
    "Redis that keeps nothing": (
        lambda place: place.redis.config_set("appendonly", "no"), WARNING, "REDIS_URL keeps no", "Set appendonly yes"
    ),
    "folder of counts that is a file": (
        lambda place: place.put(METRICS_DIR=str(place.folder / "catalog.toml")),
        WARNING, "METRICS_DIR", "Let us write there",
    ),
    "secret of the application that is none": (
        lambda place: place.put(APP_WEBHOOK_URL="https://app.example.com/x", APP_WEBHOOK_SECRET="short"),
        WRONG, "APP_WEBHOOK_SECRET is no Standard Webhooks secret", "Set it to whsec_",
    ),
    "handlers that cannot be imported": (
        lambda place: place.put(APP_HANDLERS="shop.nowhere"), WRONG, "APP_HANDLERS names shop.nowhere", "import"
    ),
    "no catalog": (lambda place: place.put(CATALOG="gone.toml"), WRONG, "no file gone.toml", "Set CATALOG"),
    "catalog that is no TOML": (lambda place: place.catalog("[plans"), WRONG, "cannot be read as TOML", "Mend"),
    "automatic tax alone": (
        lambda place: place.catalog("[session.automatic_tax]\nenabled = true"),
        WRONG, "automatic_tax needs", 'customer_update = { address = "auto" }',
    ),
    "metered price": (
        lambda place: place.sandbox.store.change(
            "price",
            CATALOG.plans["standard"].price,
            recurring={"interval": "month", "interval_count": 1, "usage_type": "metered"},
        ),
        WRONG, "is metered at Stripe", "Set metered = true",
    ),
    "worker of an older version": (_older_worker, WARNING, "0.0.9 (left over on ", "restart the older"),
    "customer in another currency": (_other_currency, WARNING, "customers is billed in EUR", "Sell a plan in EUR"),
    "portal that was never saved": (
        lambda place: place.sandbox.settings(portal="never_saved"), WRONG, "portal was never saved", "Save it once"
    ),
    "no endpoint": (
        lambda place: place.endpoint(url="https://other.example/hooks"),
        WARNING, "no webhook endpoint", "Run `onelane webhooks setup",
    ),
    "endpoint that is off": (
        lambda place: place.endpoint(status="disabled"), WRONG, "is disabled", f"webhooks setup --url {URL}`"
    ),
    "endpoint that lacks types": (
        lambda place: place.endpoint(enabled_events=["invoice.paid"]), WRONG, "lacks", "Run `onelane webhooks setup"
    ),
    "endpoint of another version": (
        lambda place: place.endpoint(api_version="2020-08-27"), WARNING, "sends 2020-08-27", "--replace"
    ),
    "two endpoints": (
        lambda place: place.at_stripe("webhook_endpoints", url=URL, enabled_events=["*"], api_version=API_VERSION),
        WARNING, "2 endpoints send", "Remove all but the one",
    ),
    "no worker": (
        lambda place: _change_ledger(place, "DELETE FROM processes WHERE kind = 'worker'"),
        WARNING, "No worker takes the queue webhooks", "Start `onelane worker --queues webhooks`",
    ),
    "no beat": (
        lambda place: _change_ledger(place, "DELETE FROM processes WHERE kind = 'beat'"),
        WARNING, "Beat does not run", "Start `onelane beat`",
    ),
    "secret rolled on one side": (
        _secret_rolled, WRONG, "1 was refused", "beside those in STRIPE_WEBHOOK_SECRETS, and restart the webs",
    ),
    "clock that is ahead": (_clock_ahead, WRONG, "clock is 400 s ahead of Stripe's", "Set the one that is wrong"),
}  # fmt: skip


def test_nothing_is_said_of_an_installation_that_is_right(place: Place) -> None:
    """OPS-93"""
    assert [finding for finding in place.examined() if finding.verdict is not OK] == []


@pytest.mark.parametrize("name", SET_UP_WRONGLY)
def test_what_is_set_up_wrongly_is_named_with_its_fix(place: Place, name: str) -> None:
    """OPS-93; OPS-188: and who is not there."""
    prepare, verdict, said, fix = SET_UP_WRONGLY[name]
    prepare(place)
    found = place.examined()
    named = [finding for finding in found if said in finding.sentence]
    assert [finding.verdict for finding in named] == [verdict], found
    assert fix in named[0].sentence
    assert "\n" not in named[0].sentence
    assert not any(secret in finding.sentence for finding in found for secret in ("a" * 20, "5" * 20, "hunter2"))


def test_what_every_buyer_found_is_named_all_at_once(place: Place) -> None:
    """OPS-90, OPS-92, OPS-93: the four mistakes that were each a 502 for every buyer while doctor said ok."""
    four = ("metered price", "automatic tax alone", "customer in another currency", "portal that was never saved")
    for name in four:
        SET_UP_WRONGLY[name][0](place)
    found = place.examined()
    for name in four:
        _, verdict, said, fix = SET_UP_WRONGLY[name]
        named = [finding for finding in found if said in finding.sentence and fix in finding.sentence]
        assert [finding.verdict for finding in named] == [verdict], (name, found)


def test_what_two_checks_find_is_said_once(place: Place) -> None:
    """OPS-93"""
    place.put(DATABASE_URL="mysql://host/name", STRIPE_LIVEMODE="true")
    sentences = [finding.sentence for finding in place.examined()]
    assert len(sentences) == len(set(sentences))
    assert sum("DATABASE_URL" in sentence for sentence in sentences) == 1


def test_every_malformed_setting_is_named_at_once(place: Place) -> None:
    """OPS-94; a start says the first, and how many more there are."""
    place.put(PORT="http", TRUSTED_PROXIES="-1", RATE_LIMIT_READS="often", REDIS_URL_FILE="/nowhere", REDIS_URL="")
    place.put(AUTH_JWKS_URL="https://id.example/keys", RATE_LIMT_CHECKOUTS="9/minute")
    sentences = [finding.sentence for finding in place.examined()]
    names = (
        "PORT:",
        "TRUSTED_PROXIES:",
        "RATE_LIMIT_READS:",
        "REDIS_URL_FILE cannot",
        "RATE_LIMT_CHECKOUTS is read by",
    )
    assert [any(sentence.startswith(name) for sentence in sentences) for name in names] == [True] * len(names), (
        sentences
    )
    with pytest.raises(ConfigurationError, match="more: `onelane doctor` lists them") as refusal:
        load_settings()
    assert "\n" not in refusal.value.sentence


def test_settings_that_contradict_each_other_are_all_named(place: Place) -> None:
    """OPS-94"""
    place.put(AUTH_JWKS_URL="https://id.example/keys", APP_WEBHOOK_URL="https://app.example.com/x", APP_HANDLERS="shop")
    [finding] = place.examined()
    assert all(name in finding.sentence for name in ("AUTH_JWKS_URL", "APP_WEBHOOK_SECRET", "APP_HANDLERS"))


def test_redis_that_cannot_be_used_is_named() -> None:
    """OPS-93"""
    [old, *_] = judge_redis({"redis_version": "6.0.9", "aof_enabled": 1})
    assert (old.verdict, "version 6.0.9: too old. Use Redis 6.2 or newer" in old.sentence) == (WRONG, True)
    with pytest.raises(ConfigurationError, match="REDIS_URL is a cluster"):
        list(judge_redis({"redis_version": "7.2.4", "cluster_enabled": 1}))


def test_check_that_breaks_leaves_the_others(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-95"""

    def broken(*_: object) -> Iterator[Finding]:
        raise RuntimeError

    monkeypatch.setattr("billing.doctor.examine.examine_portal", broken)
    found = {finding.subject: finding for finding in place.examined()}
    assert (found["portal"].verdict, "RuntimeError" in found["portal"].sentence) == (UNAVAILABLE, True)
    assert found["buying"].verdict is OK
