"""Limits: per user, for all processes together, and never in the way when Redis is gone."""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.addresses import counted_as
from app.errors import RateLimited
from app.limits import TIMEOUT_SECONDS, RateLimit
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.checkout_world import World
from tests.support.valkey import running_valkey
from tests.support.web import API_KEYS, Web


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """The address of a real Valkey."""
    with running_valkey(tmp_path / "valkey") as server:
        yield server.url


def test_user_who_asks_too_often_waits_and_nobody_else_does(make_app: MakeApp) -> None:
    """API-8, API-30"""
    web = Web(make_app(rate_limit_checkouts="2/minute"))
    assert [web.checkout().status_code for _ in range(3)] == [202, 202, 429]

    answer = web.checkout()
    assert answer.get_json(force=True)["code"] == "rate_limited"
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= 60
    assert answer.headers["RateLimit-Policy"] == '"checkouts";q=2;w=60'
    assert answer.headers["RateLimit"] == f'"checkouts";r=0;t={seconds}'
    assert web.checkout(user="user_2").status_code == 202
    assert web.get("/v1/subscription").status_code == 200


def test_server_key_is_limited_by_the_user_it_names(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_checkouts="1/minute"))

    codes = [web.checkout(bearer=API_KEYS[0], user_id=user).status_code for user in ("a", "b", "a")]

    assert codes == [202, 202, 429]


def test_reads_have_a_limit_of_their_own(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_reads="2/minute"))
    location = web.checkout().headers["Location"]

    assert [web.get(path).status_code for path in (location, "/v1/subscription", location)] == [200, 200, 429]
    assert web.checkout().status_code == 202


def test_address_that_asks_too_often_waits_whichever_tokens_it_shows(make_app: MakeApp) -> None:
    """API-8, API-39"""
    web = Web(make_app(rate_limit_addresses="3/minute"))
    assert web.get("/v1/subscription", user="ann").status_code == 200
    assert web.checkout(user="bob").status_code == 202
    assert web.get("/v1/subscription", bearer="a-guess").status_code == 401

    answer = web.get("/v1/subscription", user="eve")

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (429, "rate_limited")
    seconds = int(answer.headers["Retry-After"])
    assert 0 < seconds <= 60
    assert answer.headers["RateLimit-Policy"] == '"addresses";q=3;w=60'
    assert answer.headers["RateLimit"] == f'"addresses";r=0;t={seconds}'
    assert web.get("/v1/subscription", bearer="a-guess").status_code == 429, "guessing is slowed down, too"
    elsewhere = {"REMOTE_ADDR": "192.0.2.7"}
    assert web.get("/v1/subscription", user="eve", environ_base=elsewhere).status_code == 200
    assert web.get("/v1/subscription?user_id=ann", bearer=API_KEYS[0]).status_code == 200
    assert web.get("/v1/plans", user=None).status_code == 200


def test_address_is_the_one_that_the_believed_proxies_saw(make_app: MakeApp) -> None:
    """API-39; faults row 68: what a client writes into X-Forwarded-For gives it no further allowance."""
    for proxies in (0, 1, 2):
        web = Web(make_app(trusted_proxies=proxies, rate_limit_addresses="1/minute"))
        seen = ["198.51.100.7", "10.0.0.1"][2 - proxies :] if proxies else []
        codes = [
            web.get("/v1/subscription", headers={"X-Forwarded-For": ", ".join([f"203.0.113.{n}", *seen])}).status_code
            for n in (1, 2)
        ]
        assert codes == [200, 429], f"{proxies} proxies"


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", "unknown"),
        ("x" * 5000, "unknown"),
    ],
)
def test_address_is_counted_by_whom_it_belongs_to(address: str, name: str) -> None:
    """API-39"""
    assert counted_as(address) == name


def test_deliveries_have_no_limit(make_app: MakeApp, world: World) -> None:
    """API-32"""
    web = Web(make_app(rate_limit_checkouts="1/day", rate_limit_reads="1/day", rate_limit_addresses="1/day"))

    for _ in range(10):
        body, signature = deliver(build_event(), at=world.clock.now())
        answer = web.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature})
        assert answer.status_code == 200


def test_two_processes_count_together(make_app: MakeApp, valkey: str) -> None:
    """API-30"""
    processes = [Web(make_app(rate_limit_checkouts="3/minute", limits=valkey)) for _ in range(2)]

    codes = [processes[number % 2].checkout().status_code for number in range(4)]

    assert codes == [202, 202, 202, 429]


@pytest.fixture
def hanging() -> Iterator[str]:
    """The address of a Redis that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"


def test_redis_that_is_gone_fails_nobody_and_rates_still_count(make_app: MakeApp) -> None:
    """API-31"""
    web = Web(make_app(rate_limit_checkouts="2/minute", limits="redis://127.0.0.1:1/0"))

    assert [web.checkout().status_code for _ in range(3)] == [202, 202, 429]


def test_redis_that_hangs_holds_up_one_request_and_not_the_next(make_app: MakeApp, hanging: str) -> None:
    """API-31"""
    web = Web(make_app(rate_limit_checkouts="2/minute", limits=hanging))
    assert web.checkout().status_code == 202  # this one finds out: half a second

    started = time.monotonic()
    codes = [web.checkout().status_code for _ in range(4)]

    assert codes == [202, 429, 429, 429]
    assert time.monotonic() - started < TIMEOUT_SECONDS


def test_redis_that_dies_and_returns_is_used_again(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-31"""
    monkeypatch.setattr("app.limits.PAUSE_SECONDS", 0.0)
    mine, other = (RateLimit("checkouts", "2/minute", storage_uri=valkey) for _ in range(2))
    mine.take("user_1")
    mine._shared.storage.storage.connection_pool.disconnect()  # type: ignore[attr-defined]
    mine.take("user_1")

    with pytest.raises(RateLimited):
        other.take("user_1")
