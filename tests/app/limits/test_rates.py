"""A rate: for all processes together, and without Redis."""

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import redis

from app.errors.problems import RateLimited
from app.limits.rates import RateLimit, shared_storage
from billing.coordination.redis_client import connect_redis
from tests.app.conftest import MakeApp
from tests.support.valkey import running_valkey
from tests.support.web import Web


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[str]:
    """The address of a real Valkey."""
    with running_valkey(tmp_path / "valkey") as server:
        yield server.url


def test_two_processes_count_together(make_app: MakeApp, valkey: str) -> None:
    """API-30"""
    processes = [Web(make_app(rate_limit_checkouts="3/minute", limits=valkey)) for _ in range(2)]

    codes = [processes[number % 2].checkout().status_code for number in range(4)]

    assert codes == [202, 202, 202, 429]


@pytest.fixture
def hanging() -> Iterator["Hanging"]:
    """A Redis that takes connections and never says a word."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield Hanging(server)


class Hanging:
    def __init__(self, server: socket.socket) -> None:
        server.setblocking(False)
        self._server = server
        self.url = f"redis://127.0.0.1:{server.getsockname()[1]}/0"

    def count_connections(self) -> int:
        """How many have come since it was last asked."""
        count = 0
        with suppress(BlockingIOError):
            while True:
                self._server.accept()[0].close()
                count += 1
        return count


def test_redis_that_is_gone_fails_nobody_and_rates_still_count(make_app: MakeApp) -> None:
    """API-31"""
    web = Web(make_app(rate_limit_checkouts="2/minute", limits="redis://127.0.0.1:1/0"))

    assert [web.checkout().status_code for _ in range(3)] == [202, 202, 429]


def test_redis_that_hangs_holds_up_one_request_and_not_the_next(
    make_app: MakeApp, hanging: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-31"""
    monkeypatch.setattr("app.limits.rates.PAUSE_SECONDS", 1000)
    web = Web(make_app(rate_limit_checkouts="2/minute", limits=hanging.url))
    assert web.checkout().status_code == 202  # this one finds out: half a second
    assert hanging.count_connections() > 0

    codes = [web.checkout().status_code for _ in range(4)]

    assert codes == [202, 429, 429, 429]
    assert hanging.count_connections() == 0


def test_redis_that_dies_and_returns_is_used_again(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-31"""
    monkeypatch.setattr("app.limits.rates.PAUSE_SECONDS", 0.0)
    mine, other = (RateLimit("checkouts", "2/minute", storage=shared_storage(connect_redis(valkey))) for _ in range(2))
    mine.take("user_1")
    mine._shared.storage.storage.connection_pool.disconnect()  # type: ignore[attr-defined]
    mine.take("user_1")

    with pytest.raises(RateLimited):
        other.take("user_1")


def test_redis_that_dies_loses_no_count(tmp_path: Path) -> None:
    """API-31: what a user was given before does not come again."""
    with running_valkey(tmp_path / "valkey") as server:
        rate = RateLimit("checkouts", "2/minute", storage=shared_storage(connect_redis(server.url)))
        rate.take("ann")
    rate.take("ann")

    with pytest.raises(RateLimited):
        rate.take("ann")
    rate.take("bob")


def test_request_that_redis_refused_is_not_counted(valkey: str) -> None:
    """API-30: only what was allowed counts, in whichever process."""
    one, other = (RateLimit("checkouts", "2/minute", storage=shared_storage(connect_redis(valkey))) for _ in range(2))
    for _ in range(2):
        one.take("ann")
    for _ in range(5):
        with pytest.raises(RateLimited) as refused:
            other.take("ann")
    assert 0 < refused.value.retry_after <= 60

    with redis.Redis.from_url(valkey) as client:
        client.flushall()
    other.take("ann")


def test_window_moves_and_forgets_who_stayed_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """API-30: so many in any minute, not in each minute of the clock."""
    now = 1000.0
    monkeypatch.setattr("app.limits.rates.time.monotonic", lambda: now)
    monkeypatch.setattr("app.limits.rates.MOST_KEYS", 3)
    rate = RateLimit("checkouts", "2/minute", storage=None)

    def allowed(user: str) -> bool:
        try:
            rate.take(user)
        except RateLimited:
            return False
        return True

    taken = []
    for now in (1000.0, 1030.0, 1059.0, 1060.0, 1089.0, 1090.0):  # noqa: B007  # what the clock says
        taken.append(allowed("ann"))
    assert taken == [True, True, False, True, False, True]
    for number in range(50):
        now += 30
        assert allowed(f"user_{number}")
    assert len(rate._own._taken) < 10
