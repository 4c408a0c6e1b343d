"""Limits: rates per address and user, for all processes together or without Redis, and a semaphore for waiters."""

import json
import socket
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import request
from structlog.testing import capture_logs

from app import limits
from app.asgi import REFUSED_AGAIN
from app.errors import RateLimited
from app.limits import RateLimit, Refusals, Semaphore, connect_storage, counted_as
from billing.clock import SystemClock
from billing.coordination.wakeups import LocalWakeups
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import Request, asgi
from tests.support.checkout_world import World
from tests.support.valkey import running_valkey
from tests.support.web import API_KEYS, BODY, ORIGIN, Web, token

SECONDS = 20  # how long anything is waited for


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


def test_buyer_is_counted_before_the_body_is_read(make_app: MakeApp) -> None:
    """API-30"""
    web = Web(make_app(rate_limit_checkouts="1/minute"))
    assert web.checkout(plan="no such plan").status_code == 422

    unread = {"wsgi.input": Unreadable()}
    answer = web.call("POST", "/v1/checkouts", environ_overrides=unread, content_type="application/json")

    assert answer.status_code == 429


class Unreadable:
    """A body that nobody may look at."""

    def read(self, size: int = -1) -> bytes:
        pytest.fail("the body was read")


def test_user_is_counted_however_the_header_is_written(make_app: MakeApp) -> None:
    """API-30"""
    web, ann = Web(make_app(rate_limit_checkouts="3/minute")), token("ann")
    headers = [f"Bearer {ann}", f"bearer {ann}", f"Bearer   {ann}", f"Bearer {token('ann', email='ann@example.com')}"]

    codes = [web.checkout(headers={"Authorization": header}).status_code for header in headers]

    assert codes == [202, 202, 202, 429]


def test_buyer_who_was_just_refused_is_refused_again_without_a_thread(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-75"""
    app = make_app(rate_limit_checkouts="1/minute")
    flask, called = app.wsgi_app, list[str]()
    monkeypatch.setattr(
        app, "wsgi_app", lambda environ, start: (called.append(environ["PATH_INFO"]), flask(environ, start))[1]
    )
    web, ann = asgi(app, origins=[ORIGIN]), token("ann")

    def ask(credential: str, method: str = "POST", path: str = "/v1/checkouts", **fields: str) -> Request:
        called.clear()
        headers = {
            "Authorization": f"Bearer {credential}",
            "Transfer-Encoding": "chunked",
            "Content-Type": "application/json",
            "Origin": ORIGIN,
        }
        return Request(method, path, headers=headers.items(), pieces=[json.dumps(BODY | fields).encode()]).run(web)

    assert [ask(ann).status, ask(ann).status, called] == [202, 429, ["/v1/checkouts"]]

    before = REFUSED_AGAIN.collect()[0].samples[0].value
    with capture_logs() as logs:
        again = ask(ann)

    assert (again.status, called, again.asked) == (429, [], 0)
    assert (logs, REFUSED_AGAIN.collect()[0].samples[0].value) == ([], before + 1)
    assert json.loads(again.body)["code"] == "rate_limited"
    assert 0 < int(again.headers["retry-after"]) <= 60
    assert again.headers["ratelimit-policy"] == '"checkouts";q=1;w=60'
    assert again.headers["access-control-allow-origin"] == ORIGIN
    assert "RateLimit" in again.headers["access-control-expose-headers"]
    assert ask(ann, "GET", "/v1/subscription").status == 200
    assert ask(token("bob")).status == 202
    assert [ask(API_KEYS[0], user_id=user).status for user in ("eve", "eve", "joe")] == [202, 429, 202]
    monkeypatch.setattr("app.limits.REFUSED_SECONDS", 0)
    ask(f" {ann}")
    assert (ask(f" {ann}").status, called) == (429, ["/v1/checkouts"]), "what is longer ago is found out again"


def test_request_whose_like_is_refused_while_it_waits_for_a_thread_is_refused(make_app: MakeApp) -> None:
    """API-75"""
    app = make_app()
    web = asgi(app)

    async def pieces() -> AsyncIterator[bytes]:
        with app.test_request_context("/v1/checkouts", method="POST", headers={"Authorization": "Bearer a"}) as context:
            app.extensions[limits.EXTENSION].note(context.request, RateLimited(7, {}))
        yield b"{}"

    headers = {"Authorization": "Bearer a", "Transfer-Encoding": "chunked"}
    answer = Request("POST", "/v1/checkouts", headers=headers.items(), pieces=pieces()).run(web)

    assert (answer.status, answer.headers["retry-after"]) == (429, "7")


def test_refusals_are_remembered_in_bounded_number(make_app: MakeApp) -> None:
    """API-75"""
    app, refusals = make_app(), Refusals()
    for number in range(3 * limits.MOST_REFUSALS):
        with app.test_request_context(f"/v1/checkouts/{number}") as context:
            refusals.note(context.request, RateLimited(7, {}))
    assert len(refusals._refused) <= limits.MOST_REFUSALS


def test_storm_of_one_user_is_cut_off_at_the_rate_and_everybody_else_is_served(make_app: MakeApp, world: World) -> None:
    """API-30, API-38; faults row 3"""
    app = make_app(rate_limit_checkouts="30/minute")
    ann, delivery = token("ann"), deliver(build_event(), at=world.clock.now())

    with ThreadPoolExecutor(20) as threads:
        storm = [threads.submit(lambda: Web(app).checkout(bearer=ann).status_code) for _ in range(60)]
        other = threads.submit(Web(app).checkout, user="bob")
        health = threads.submit(Web(app).get, "/healthz", user=None)
        stripe = threads.submit(
            Web(app).call, "POST", "/webhooks/stripe", data=delivery[0], headers={"Stripe-Signature": delivery[1]}
        )

    assert Counter(answer.result() for answer in storm) == {202: 30, 429: 30}
    assert [answer.result().status_code for answer in (other, health, stripe)] == [202, 200, 200]


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
        ("192.0.2.7:61234", "192.0.2.7"),
        ("[2001:db8:1:2:3:4:5:6]:443", "2001:db8:1:2::/64"),
        ("[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        ('"[2001:db8:1:2::9]"', "2001:db8:1:2::/64"),
        ("[::ffff:192.0.2.7]:1", "192.0.2.7"),
        ("64:ff9b::192.0.2.7", "192.0.2.7"),
        ("64:ff9b::c000:208", "192.0.2.8"),
        (" 192.0.2.7", "192.0.2.7"),
        # No one name for all whom nobody knows.
        ("", ""),
        ("unknown", ""),
        ("_hidden", ""),
        ("[::1", ""),
        ("1.2.3.4.5", ""),
        ("x" * 5000, ""),
    ],
)
def test_address_is_counted_by_whom_it_belongs_to(address: str, name: str) -> None:
    """API-39"""
    assert counted_as(address) == name


@pytest.mark.parametrize(
    ("headers", "statuses"),
    [
        ({"X-Forwarded-For": "192.0.2.7:{0}"}, [200, 429, 429]),  # one client, from several ports
        ({"X-Forwarded-For": "[2001:db8::{0}]:443"}, [200, 429, 429]),
        ({"X-Forwarded-For": "64:ff9b::192.0.2.{0}"}, [200, 200, 200]),  # several clients behind one NAT64
        ({"X-Forwarded-For": "198.51.100.{0}:80"}, [200, 200, 200]),
        ({"X-Forwarded-For": "unknown"}, [200, 200, 200]),
        ({}, [200, 200, 200]),
    ],
)
def test_address_as_proxies_write_it_is_understood_or_ignored(
    make_app: MakeApp, headers: dict[str, str], statuses: list[int]
) -> None:
    """API-39, API-101, faults row 104: never one allowance for all."""
    web = Web(make_app(rate_limit_addresses="1/minute", trusted_proxies=1))
    sent = ({name: value.format(number) for name, value in headers.items()} for number in (1, 2, 3))
    assert [web.get("/v1/subscription", headers=one).status_code for one in sent] == statuses


def test_header_with_underscores_is_not_taken_for_the_one_with_hyphens(make_app: MakeApp) -> None:
    """API-39, faults row 104: proxies hand it through, and WSGI writes both alike."""
    app = make_app(trusted_proxies=1)
    addresses: list[str | None] = []
    app.before_request(lambda: addresses.append(request.remote_addr))
    fields = [("x_forwarded_for", "6.6.6.6"), ("x-forwarded-for", "192.0.2.7")]
    for headers in (fields, fields[::-1]):
        Request("GET", "/healthz", headers=headers, client=("10.0.0.1", "1")).run(asgi(app))
    assert addresses == ["192.0.2.7"] * 2


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
    monkeypatch.setattr("app.limits.PAUSE_SECONDS", 1000)
    web = Web(make_app(rate_limit_checkouts="2/minute", limits=hanging.url))
    assert web.checkout().status_code == 202  # this one finds out: half a second
    assert hanging.count_connections() > 0

    codes = [web.checkout().status_code for _ in range(4)]

    assert codes == [202, 429, 429, 429]
    assert hanging.count_connections() == 0


def test_redis_that_dies_and_returns_is_used_again(valkey: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-31"""
    monkeypatch.setattr("app.limits.PAUSE_SECONDS", 0.0)
    mine, other = (RateLimit("checkouts", "2/minute", storage=connect_storage(valkey)) for _ in range(2))
    mine.take("user_1")
    mine._shared.storage.storage.connection_pool.disconnect()  # type: ignore[attr-defined]
    mine.take("user_1")

    with pytest.raises(RateLimited):
        other.take("user_1")


def test_redis_that_dies_loses_no_count(tmp_path: Path) -> None:
    """API-31: what a user was given before does not come again."""
    with running_valkey(tmp_path / "valkey") as server:
        rate = RateLimit("checkouts", "2/minute", storage=connect_storage(server.url))
        rate.take("ann")
    rate.take("ann")

    with pytest.raises(RateLimited):
        rate.take("ann")
    rate.take("bob")


def test_request_that_redis_refused_is_not_counted(valkey: str) -> None:
    """API-30: only what was allowed counts, in whichever process."""
    one, other = (RateLimit("checkouts", "2/minute", storage=connect_storage(valkey)) for _ in range(2))
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
    monkeypatch.setattr("app.limits.time.monotonic", lambda: now)
    monkeypatch.setattr("app.limits.MOST_KEYS", 3)
    rate = RateLimit("checkouts", "2/minute", storage=connect_storage("memory://"))

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


def test_semaphore_has_so_many_places_and_a_share_of_them_for_one_user() -> None:
    """API-22"""
    semaphore = Semaphore(3, share=2)
    with ExitStack() as held:
        users = ("ann", "ann", "ann", "bob", "bob", "eve")
        has_place = [held.enter_context(semaphore.place(user)) for user in users]
        assert has_place == [True, True, False, True, False, False]
    with semaphore.place("ann") as again:
        assert again


class Held(LocalWakeups):
    """Wake-ups that hold every waiter until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting, self.let_go = threading.Semaphore(0), threading.Event()

    def wait(self, id_: str, seconds: float) -> None:
        self.waiting.release()
        assert self.let_go.wait(SECONDS)


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/subscription/cancel"])
def test_request_beyond_the_places_or_the_share_is_answered_without_a_wait(
    make_app: MakeApp, world: World, path: str
) -> None:
    """API-22"""
    for user in ("ann", "bob", "eve"):
        world.sandbox.pay(str(world.served(user=user).session_id))
    wakeups = Held()
    app = make_app(services={"wakeups": wakeups, "clock": SystemClock()}, waiters=Semaphore(2, share=1))

    def ask(user: str) -> tuple[int, str]:
        body: dict[str, Any] = {"json": BODY} if path == "/v1/checkouts" else {}
        answer = Web(app).call("POST", path, user=user, headers={"Prefer": "wait=1"}, **body)
        return answer.status_code, answer.headers.get("Location", "")

    with ThreadPoolExecutor(2) as threads:
        waiting = []
        for user in ("ann", "bob"):
            waiting.append(threads.submit(ask, user))
            assert wakeups.waiting.acquire(timeout=SECONDS)
            status, location = ask("ann")  # first beyond her share, then beyond all places
            assert (status, bool(location)) == (202, True)
        assert ask("eve")[0] == 202
        assert Web(app).get(location, user="ann", headers={"Prefer": "wait=1"}).get_json()["status"] == "pending"
        assert not any(answer.done() for answer in waiting)
        wakeups.let_go.set()


@pytest.mark.parametrize("path", ["/v1/checkouts", "/v1/subscription/cancel"])
def test_buyer_with_a_window_that_waits_is_served_in_the_next_one(make_app: MakeApp, world: World, path: str) -> None:
    """API-22"""
    world.sandbox.pay(str(world.served().session_id))
    served = list[int]()

    class OtherWindow(LocalWakeups):
        """While one window waits, the same buyer asks for something else."""

        def wait(self, id_: str, seconds: float) -> None:
            with ThreadPoolExecutor(1) as window:
                served.append(window.submit(Web(app).get, "/v1/subscription").result(SECONDS).status_code)

    app = make_app(services={"wakeups": OtherWindow(), "clock": SystemClock()})
    body: dict[str, Any] = {"json": BODY} if path == "/v1/checkouts" else {}
    Web(app).call("POST", path, headers={"Prefer": "wait=1"}, **body)
    assert set(served) == {200}
