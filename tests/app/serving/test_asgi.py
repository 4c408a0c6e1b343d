"""The ASGI application: bodies are read on the loop and bounded, and Flask gets a whole request in a thread."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from flask import Flask, Response, request
from structlog.testing import capture_logs

from app import webhooks
from app.bodies.reading import MAX_BODY_BYTES
from app.serving import asgi
from app.serving.asgi import Web
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import Request
from tests.support.callers import asgi as web_over
from tests.support.checkout_world import World
from tests.support.web import ORIGIN

EVENT = build_event(id="evt_asgi")


@pytest.fixture
def web(make_app: MakeApp) -> Web:
    """The shipped application."""
    return web_over(make_app(), origins=[ORIGIN])


@pytest.fixture
def seen() -> dict[str, Any]:
    """The environ of the last request that Flask was given."""
    return {}


@pytest.fixture
def mirror(seen: dict[str, Any]) -> Web:
    """A Flask that shows what it was given."""
    app = Flask("mirror")

    @app.route("/", defaults={"path": ""}, methods=["GET", "POST", "PUT", "DELETE"])
    @app.route("/<path:path>", methods=["GET", "POST", "PUT", "DELETE"])
    def show(path: str) -> Response:
        seen.update(request.environ, body=request.get_data(), thread=threading.current_thread().name)
        answer = Response("é".encode("latin-1"), 299, content_type="text/x-mirror")
        answer.headers.add("X-Twice", "one")
        answer.headers.add("X-Twice", "zwöi")
        return answer

    return Web(app.wsgi_app, threads=1)


def problem_of(answer: Request) -> tuple[int, str]:
    """Status and code of a refusal, which is whole: an id, our headers, no 5xx without Retry-After."""
    told = json.loads(answer.body)
    assert answer.headers["content-type"] == "application/problem+json"
    assert told["request_id"] == answer.headers["request-id"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.status != 503 or answer.headers["retry-after"]
    return answer.status, told["code"]


def signed(world: World, **instead: str) -> dict[str, str]:
    """The headers of a delivery."""
    body, signature = deliver(EVENT, at=world.clock.now())
    return {"Content-Length": str(len(body)), "Stripe-Signature": signature, **instead}


# --- the bridge


def test_flask_is_given_the_request_as_it_came(mirror: Web, seen: dict[str, Any]) -> None:
    """API-70: path and query by their bytes, the body whole, repeated headers as one, nothing that could be another."""
    sent = [
        ("Content-Type", "text/x"),
        ("Transfer-Encoding", "chunked"),
        ("Accept", "a"),
        ("Accept", "b"),
        ("Cookie", "c=1"),
        ("Cookie", "d=2"),
        ("X-Name", "zwö"),
        ("X_Forwarded_For", "203.0.113.9"),
    ]
    answer = Request(
        "POST", "/a%20b/%C3%A9%2F%00?x=%41&y", headers=sent, pieces=[b"one ", b"", b"two"], root_path="/a b"
    ).run(mirror)
    assert answer.status == 299
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/a b",
        "PATH_INFO": "/é/\0".encode().decode("latin-1"),
        "QUERY_STRING": "x=%41&y",
        "CONTENT_TYPE": "text/x",
        "CONTENT_LENGTH": "7",
        "HTTP_ACCEPT": "a,b",
        "HTTP_COOKIE": "c=1;d=2",
        "HTTP_X_NAME": "zwö",
        "REMOTE_ADDR": "192.0.2.7",
        "SERVER_NAME": "192.0.2.1",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        "body": b"one two",
        "thread": "web_0",
    }
    assert {name: seen[name] for name in expected} == expected
    assert not {"HTTP_TRANSFER_ENCODING", "HTTP_X_FORWARDED_FOR", "HTTP_CONTENT_LENGTH"} & set(seen)


def test_servers_answer_is_flasks(mirror: Web) -> None:
    """API-70: status, headers as often as they were set, and bytes; and no body for a HEAD."""
    answer = Request("GET", "/x").run(mirror)
    assert (answer.status, answer.body) == (299, b"\xe9")
    twice = [value for name, value in answer.sent[0]["headers"] if name == b"X-Twice"]
    assert twice == [b"one", "zwöi".encode("latin-1")]
    head = Request("HEAD", "/x").run(mirror)
    assert (head.status, head.body, head.headers["content-length"]) == (299, b"", "1")


def test_what_a_server_may_leave_out_is_not_needed(mirror: Web, seen: dict[str, Any]) -> None:
    """API-70: ASGI's optional keys."""
    sent = Request("GET", "/caf%C3%A9", scheme="https", http_version="1.0")
    for name in ("raw_path", "client", "server", "root_path"):
        del sent.scope[name]
    assert sent.run(mirror).status == 299
    names = ("PATH_INFO", "REMOTE_ADDR", "SERVER_PROTOCOL", "wsgi.url_scheme", "CONTENT_LENGTH", "body")
    assert [seen[name] for name in names] == ["/café".encode().decode("latin-1"), "", "HTTP/1.0", "https", "0", b""]


def test_middleware_may_write_and_end(seen: dict[str, Any]) -> None:
    """API-70: PEP 3333's `write` and `close`, and a second start_response in place of the first."""

    class Pieces:
        def __iter__(self) -> Any:
            return iter([b"b", b"c"])

        def close(self) -> None:
            seen["closed"] = True

    def wsgi(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        start_response("404 Not Found", [("X-A", "b")], None)(b"a")
        return Pieces()

    answer = Request("GET", "/").run(Web(wsgi, threads=1))
    assert (answer.status, answer.headers, answer.body, seen) == (404, {"x-a": "b"}, b"abc", {"closed": True})


def test_middleware_that_fails_is_a_500_of_the_table() -> None:
    """API-7"""

    def wsgi(_environ: dict[str, Any], _start_response: Any) -> Any:
        raise ZeroDivisionError("a secret")

    answer = Request("GET", "/").run(Web(wsgi, threads=1))
    assert problem_of(answer) == (500, "internal")
    assert b"secret" not in answer.body


@pytest.mark.parametrize(("hops", "address"), [(0, "192.0.2.7"), (1, "203.0.113.1"), (2, "203.0.113.2")])
def test_forwarded_addresses_count_as_far_as_proxies_are_trusted(make_app: MakeApp, hops: int, address: str) -> None:
    """API-39: behind the bridge, too; two fields are one list."""
    app, found = make_app(trusted_proxies=hops), []
    app.before_request(lambda: found.append((request.remote_addr, request.scheme)))
    headers = [("X-Forwarded-For", "203.0.113.3"), ("X-Forwarded-For", "203.0.113.2, 203.0.113.1")]
    headers += [("X-Forwarded-Proto", "https, https, https")]
    Request("GET", "/healthz", headers=headers).run(web_over(app))
    assert found == [(address, "https" if hops else "http")]


# --- bodies


def test_body_longer_than_its_address_reads_is_refused(web: Web) -> None:
    """API-5, API-35: what says so is not read, and what does not is given up at the limit."""
    told = Request("POST", "/v1/checkouts", headers={"Content-Length": str(MAX_BODY_BYTES + 1)}.items()).run(web)
    assert (problem_of(told), told.asked) == ((413, "payload_too_large"), 0)
    pieces = iter([b"x" * 1000] * 1000)
    chunked = Request("POST", "/v1/checkouts", headers=[("Transfer-Encoding", "chunked")], pieces=pieces).run(web)
    assert problem_of(chunked) == (413, "payload_too_large")
    assert chunked.asked == MAX_BODY_BYTES // 1000 + 1


def test_body_that_ends_too_early_is_refused_and_takes_no_thread(mirror: Web, seen: dict[str, Any]) -> None:
    """API-71: its client is gone, or does not write HTTP."""
    for headers in ({"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}):
        answer = Request("POST", "/x", headers=headers.items(), pieces=[b"{"], unfinished=True).run(mirror)
        assert problem_of(answer) == (400, "bad_request")
    assert seen == {}


class Slow:
    """A body of which one byte comes now and then."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def bytes(self) -> AsyncIterator[bytes]:
        while True:
            self.begun.set()
            yield b"{"
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("path", ["/v1/checkouts", webhooks.PATH])
def test_body_has_its_deadline_however_slowly_it_comes(
    web: Web, world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-71"""
    monkeypatch.setattr(asgi, "BODY_SECONDS", 0.1)
    headers = signed(world, **{"Content-Length": "60000"})
    answer = Request("POST", path, headers=headers.items(), pieces=Slow().bytes()).run(web)
    assert problem_of(answer) == (408, "body_timeout")
    assert json.loads(answer.body)["retryable"] is True


def test_slow_bodies_hold_no_thread(make_app: MakeApp, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-36: 170 of them, before a web of two threads; everybody else is served meanwhile."""
    monkeypatch.setattr(asgi, "BODY_SECONDS", 60)
    web = web_over(make_app())

    async def story() -> None:
        slow = [Slow() for _ in range(170)]
        headers = {"Content-Length": "1000", "Authorization": "Bearer whoever"}
        sent = [Request("POST", "/v1/checkouts", headers=headers.items(), pieces=one.bytes()) for one in slow]
        tasks = [asyncio.create_task(each.go(web)) for each in sent]
        for one in slow:
            await one.begun.wait()
        alive, delivery = (
            Request("GET", "/healthz"),
            Request("POST", webhooks.PATH, headers=signed(world).items(), pieces=[deliver(EVENT)[0]]),
        )
        async with asyncio.timeout(20):
            await alive.go(web)
            await delivery.go(web)
        assert (alive.status, delivery.status) == (200, 200)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(story())
    assert web._bodies_bytes == 0


def test_bodies_together_are_bounded(web: Web, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-72: what finds no room is refused as busy, and there is room again for the next one."""
    monkeypatch.setattr(asgi, "MAX_BODIES_BYTES", MAX_BODY_BYTES)
    headers = {"Content-Length": str(MAX_BODY_BYTES)}.items()

    async def story() -> None:
        slow = Slow()

        async def most() -> AsyncIterator[bytes]:
            yield b"x" * (MAX_BODY_BYTES - 1000)
            async for piece in slow.bytes():
                yield piece

        first = asyncio.create_task(Request("POST", "/v1/checkouts", headers=headers, pieces=most()).go(web))
        await slow.begun.wait()
        second = Request("POST", "/v1/checkouts", headers=headers, pieces=[b"x" * MAX_BODY_BYTES])
        await second.go(web)
        assert problem_of(second) == (503, "try_again")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        third = Request("POST", "/v1/checkouts", headers=headers, pieces=[b"x" * MAX_BODY_BYTES])
        await third.go(web)
        assert third.status == 401

    asyncio.run(story())
    assert web._bodies_bytes == 0


def test_refusal_can_be_read_by_our_own_pages_only(web: Web) -> None:
    """API-33"""
    for origin, allowed in ((ORIGIN, ORIGIN), ("https://evil.example", None), ("null", None)):
        headers = {"Content-Length": "100000", "Origin": origin}
        answer = Request("POST", "/v1/checkouts", headers=headers.items()).run(web)
        assert answer.status == 413
        assert answer.headers.get("access-control-allow-origin") == allowed
    answer = Request("POST", webhooks.PATH, headers={"Content-Length": "10000000", "Origin": ORIGIN}.items()).run(web)
    assert "access-control-allow-origin" not in answer.headers


# --- deliveries


@pytest.mark.parametrize(
    "signature", [None, "", "x", "t=1,v1=" + "0" * 64, "t=99999999999,v1=" + "0" * 64, "t={t}", "v1=" + "0" * 64]
)
def test_header_that_can_be_no_good_signature_is_refused_before_the_body(
    web: Web, world: World, signature: str | None
) -> None:
    """WHK-99"""
    headers = {"Content-Length": "1000"}
    if signature is not None:
        headers["Stripe-Signature"] = signature.replace("{t}", str(int(world.clock.now().timestamp())))
    answer = Request("POST", webhooks.PATH, headers=headers.items(), pieces=[b"x" * 1000]).run(web)
    assert (problem_of(answer), answer.asked) == ((400, "invalid_signature"), 0)


def test_delivery_that_comes_whole_is_asked_for_once(web: Web, world: World) -> None:
    """WHK-16: its length says that there is no more."""
    body, _ = deliver(EVENT)
    answer = Request("POST", webhooks.PATH, headers=signed(world).items(), pieces=[body]).run(web)
    assert (answer.status, answer.body, answer.asked) == (200, b'{"status":"recorded"}\n', 1)


def test_refused_delivery_is_logged_with_its_id(web: Web) -> None:
    """API-9, OPS-4"""
    headers = {"Content-Length": "2", "Request-Id": "their-own-id-7", "Stripe-Signature": "a secret"}
    with capture_logs() as logs:
        Request("POST", webhooks.PATH, headers=headers.items()).run(web)
    assert [line["event"] for line in logs] == ["event.refused", "request.answered"]
    assert "secret" not in str(logs)


def test_at_the_servers_end_what_waits_is_committed(make_app: MakeApp, world: World) -> None:
    """LED-51: and what still comes is answered."""
    app = make_app()
    web, closed = web_over(app), []
    deliveries = app.extensions[webhooks.EXTENSION]
    end, deliveries.close = deliveries.close, lambda: closed.append(end())
    messages = iter([{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}])
    sent: list[str] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message["type"])

    asyncio.run(web({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert closed == [None]
    body, _ = deliver(EVENT)
    assert Request("POST", webhooks.PATH, headers=signed(world).items(), pieces=[body]).run(web).status == 200
