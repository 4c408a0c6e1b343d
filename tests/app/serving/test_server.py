"""The real server on a real socket: what clients that mean no good can and cannot hold up."""

import http.client
import json
import re
import select
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.process.logs import LINE_BYTES
from billing.process.run_with_parent import launched
from tests.support.builders import SECRET, build_event, deliver
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, descendants, environment, wait_until
from tests.support.web import JWT_SECRET, token

HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the server runs; what it writes is in `output`."""
    return tmp_path_factory.mktemp("web")


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[int, int]]:
    """`onelane web` over a SQLite ledger, without Redis: its port and its process."""
    with _serving(folder) as (number, server):
        yield number, server.pid


@contextmanager
def _serving(folder: Path, **more: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    with _started(folder, **more) as (number, server):
        wait_until(lambda: _is_served(number), lambda: Path(folder / "output").read_text())
        yield number, server


@contextmanager
def _started(folder: Path, **more: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    address, number = f"sqlite:///{folder}/ledger.sqlite3", own_port()
    ledger = Database(address)
    upgrade(ledger)
    ledger.close()
    settings = {
        "PYTHONPATH": str(ROOT),
        "PORT": str(number),
        "DATABASE_URL": address,
        "REDIS_URL": "redis://127.0.0.1:1/0",
        "AUTH_JWT_SECRET": JWT_SECRET,
        "CATALOG": str(ROOT / "catalog.toml"),
        "STRIPE_WEBHOOK_SECRETS": SECRET,
        **more,
    }
    with (folder / "output").open("wb") as output:
        server = subprocess.Popen(
            launched([sys.executable, "-P", "-m", "onelane", "web"]),
            cwd=folder,
            env=environment(**settings),
            stdout=output,
            stderr=output,
        )
    try:
        yield number, server
    finally:
        server.terminate()
        server.wait(40)


@pytest.fixture(scope="module")
def port(served: tuple[int, int]) -> int:
    """Where it answers."""
    return served[0]


def test_silent_clients_keep_nobody_out(port: int) -> None:
    """API-37; faults row 67: five thousand of them, where this machine lets a process have so many."""
    with ExitStack() as stack:
        count = min(5000, getrlimit(RLIMIT_NOFILE)[0] * 3 // 4 - 150)
        clients = [stack.enter_context(_connect(port)) for _ in range(count + 100)]
        for client in clients[count:]:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert _is_served(port)
        assert not any(map(_has_heard, clients)), "served while they are waited for, not after they were hung up on"


def test_slow_bodies_keep_nobody_out(port: int) -> None:
    """API-36, API-37, API-71; faults row 67: more of them than threads, for Stripe's route and a buyer's."""
    head = HEAD + f"Stripe-Signature: {_signature(b'')}\r\n".encode()
    buyers = b"POST /v1/checkouts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    buyers += f"Authorization: Bearer {token('slow')}\r\n".encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(_connect(port)) for _ in range(2 * 170)]
        for number, client in enumerate(clients):
            client.settimeout(30)
            client.sendall((buyers if number % 2 else head) + b"Content-Length: 1000\r\n\r\n{")
        assert _is_served(port)
        assert _status(port, _delivery()) == b"200"
        assert not any(map(_has_heard, clients)), "served while their bodies are waited for, not after that"
        told = [_answer(client).split(b" ")[1] for client in clients]
        assert set(told[::2]) == {b"408"}
        assert set(told[1::2]) == {b"408", b"429"}, "a body that was refused counts for its buyer (API-94)"


def test_ledger_that_stands_still_keeps_nobody_out(folder: Path, port: int) -> None:
    """LED-50: more deliveries wait for it than the web has threads, which are 160."""
    ledger = sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        [before] = ledger.execute("SELECT count(*) FROM events").fetchone()
        ledger.execute("BEGIN IMMEDIATE")
        clients = [stack.enter_context(_connect(port)) for _ in range(200)]
        for client in clients:
            client.sendall(_delivery())
        assert _is_served(port)
        assert _is_served(port)
        assert not any(map(_has_heard, clients)), "served while they wait, not after that"
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (before,)
        ledger.execute("ROLLBACK")
        assert {_answer(client).partition(b"\r\n")[0] for client in clients} == {b"HTTP/1.1 200 OK"}
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (before + 200,)


def test_delivery_that_the_ledger_does_not_take_is_told_so(folder: Path, port: int) -> None:
    """LED-3, LED-50: in the words of every refusal."""
    ledger = sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        ledger.execute("BEGIN IMMEDIATE")  # for longer than anybody waits
        client = stack.enter_context(_connect(port))
        client.settimeout(9)  # it waits for 5 s
        client.sendall(_delivery("Request-Id: mine-1234\r\n"))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        problem = json.loads(answer.read())
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert (problem["code"], problem["request_id"]) == ("ledger_unavailable", "mine-1234")


def test_web_that_is_told_to_stop_answers_what_it_has_accepted(tmp_path: Path) -> None:
    """LED-51, OPS-63: no thread of it waits for these, and it waits for them nonetheless."""
    with _serving(tmp_path) as (port, server), ExitStack() as stack:
        ledger = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
        stack.callback(ledger.close)
        ledger.execute("BEGIN IMMEDIATE")
        clients = [stack.enter_context(_connect(port)) for _ in range(50)]
        for client in clients:
            client.sendall(_delivery())
        assert _is_served(port)  # by then the last one is read
        server.terminate()
        wait_until(lambda: not _is_served(port), lambda: "it still takes requests")
        ledger.execute("ROLLBACK")
        assert {_answer(client).partition(b"\r\n")[0] for client in clients} == {b"HTTP/1.1 200 OK"}
        assert server.wait(20) == 0
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (50,)


def test_web_that_is_told_to_stop_while_it_starts_stops(tmp_path: Path) -> None:
    """OPS-63: its process has begun and does not listen for signals yet; not heard, it would be killed after 30 s."""
    with _started(tmp_path) as (_, server):
        seen: set[int] = set()  # the first one only looks at the settings

        def has_begun() -> bool:
            seen.update(descendants(server.pid))
            return len(seen) > 1

        wait_until(has_begun, lambda: "a process that serves")
        server.terminate()
        assert server.wait(20) == 0


def test_endless_body_is_cut_off_after_little_more_than_the_limit(port: int) -> None:
    """API-35; faults row 54"""
    sent = 0
    with _connect(port) as client:
        client.sendall(HEAD + f"Stripe-Signature: {_signature(b'')}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(OSError):  # the server hangs up
            while sent < 200 * 2**20:
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        assert _answer(client).startswith(b"HTTP/1.1 413 ")
    assert sent < 20 * 2**20  # 1 MiB and what fits into the buffers of two sockets


REFUSED = {
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}}",
    "a length and chunks": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks and a length": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunks under another name": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunks, hidden by a space": HEAD + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a length with a sign": HEAD + b"Content-Length: +2\r\n\r\n{}",
    "a length below nothing": HEAD + b"Content-Length: -1\r\n\r\n{}",
    "a folded header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: b\r\n c\r\n\r\n",
    "a bare CR in a header": b"GET /healthz HTTP/1.1\r\nHost: x\r\nRequest-Id: abcdefgh\rX-B: c\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
}


def test_ambiguous_request_is_refused(port: int, subtests: pytest.Subtests) -> None:
    """API-3; faults row 68"""
    for name, request in REFUSED.items():
        with subtests.test(name), _connect(port) as client:
            client.sendall(request)
            assert _answer(client).startswith(b"HTTP/1.1 400 ")


ODD = {
    "a path of odd bytes": b"GET /%ff%00%0a%c0%80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an id with a line break": b"GET /v1/checkouts/chk_%0d%0aX:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a credential in Latin-1": b"GET /v1/subscription HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "ids in Latin-1": b"GET /v1/subscription HTTP/1.1\r\nHost: x\r\nRequest-Id: \xe9\xff\r\nOrigin: \xff\r\n\r\n",
    "3,000 parameters": b"GET /v1/subscription?" + b"a=1&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare line feeds": b"GET /nowhere HTTP/1.1\nHost: x\n\n",
    "a bare line feed in a header": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nRequest-Id: abcdefgh\nX-B: c\r\n\r\n",
    "an address in full": b"GET http://evil.example/nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    "a host of its own": b"GET /nowhere HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\r\n",
}


def test_odd_request_gets_an_ordinary_refusal(port: int, subtests: pytest.Subtests) -> None:
    """API-3; faults rows 66 and 68"""
    for name, request in ODD.items():
        with subtests.test(name), _connect(port) as client:
            client.sendall(request)
            answer = _answer(client)
            assert answer.split(b" ")[1] in (b"400", b"401", b"404")
            assert b"evil.example" not in answer


# RFC 9113, 3.4: how a client begins that knows beforehand that the server speaks HTTP/2.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


def test_http2_is_not_spoken(port: int) -> None:
    """API-69: who begins with the preface is hung up on, and who asks for an upgrade stays with HTTP/1."""
    with _connect(port) as client:
        client.sendall(HTTP2_PREFACE)
        assert client.recv(65536) == b""
    with _connect(port) as client:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert _answer(client).startswith(b"HTTP/1.1 200 ")


def test_connection_that_sends_no_request_is_closed(tmp_path: Path) -> None:
    """API-73: silent from the beginning, in the middle of its headers, or after a request."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    with _serving(tmp_path, KEEP_ALIVE_SECONDS="1") as (port, _), ExitStack() as stack:
        silent, dribbling, idle = (stack.enter_context(_connect(port)) for _ in range(3))
        dribbling.sendall(request + b"X-Slow: ")
        idle.sendall(request + b"\r\n")
        for client in (silent, dribbling, idle):
            client.settimeout(30)
            while client.recv(65536):
                pass


def test_headers_are_bounded(port: int) -> None:
    """API-74: the server looks once 64 KiB are there, and may by then have read as many again."""
    for size, status in ((60_000, b"200"), (132_000, b"431")):
        fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 6000) for number in range(size // 6000))
        assert _status(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n") == status


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="this machine does not show a process's limits")
def test_web_may_have_as_many_files_open_as_the_machine_lets_it(tmp_path: Path) -> None:
    """OPS-64: a connection is one, and the usual soft limit is 1,024."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with _serving(tmp_path) as (_, server):
            for pid in (server.pid, *descendants(server.pid)):
                found = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text())
                assert found
                assert found[1] == found[2] == str(hard)
    finally:
        setrlimit(RLIMIT_NOFILE, (soft, hard))


LONG = b"x" * 7000
NAUGHTY = (
    b"%00%0d%0a%1b[31m%c0%80%ff",
    "\u202e\u2028'\"<script>{{7*7}}${jndi:ldap://x}".encode(),
    b'{"level":"info"}',
    b"' OR 1=1;--",
    LONG,
)
PATHS = (
    *(b"/v1/checkouts", b"/v1/checkouts/", b"/v1/subscription?user_id=", b"/v1/operations/", b"/v1/customers/"),
    *(
        b"/webhooks/stripe",
        b"/docs",
        b"/openapi.json",
        b"/healthz",
        b"/metrics",
        b"/static/",
        b"/static/../",
        b"/",
        b"//",
    ),
)
METHODS = (b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS", b"TRACE", b"PROPFIND", b"X" * 300)
HEADERS = (
    *(
        b"Authorization: Bearer ",
        b"Authorization: ",
        b"Request-Id: ",
        b"Idempotency-Key: ",
        b"Prefer: wait=",
        b"Origin: ",
    ),
    *(b"Stripe-Signature: t=1,v1=", b"Content-Type: ", b"Host: ", b"X-Forwarded-For: ", b"User-Agent: ", b"Cookie: "),
    *(b"Access-Control-Request-Headers: ", b"Accept: ", b"Content-Encoding: ", b"If-None-Match: ", b"Range: bytes="),
)


def _hostile() -> Iterator[bytes]:
    """Requests of people without a credential: each place of a request filled with each thing."""
    end = b"Host: x\r\nConnection: close\r\n"
    for path in PATHS:
        for method in METHODS:
            yield b"%s %s HTTP/1.1\r\n%sContent-Length: 2\r\n\r\n{}" % (method, path, end)
        for naughty in NAUGHTY:
            there = path + naughty.replace(b" ", b"+").replace(b'"', b"%22")
            yield b"GET %s HTTP/1.1\r\n%s\r\n" % (there, end)
            head = b"POST %s HTTP/1.1\r\n%sContent-Type: application/json\r\n" % (path, end)
            yield head + b"Content-Length: %d\r\n\r\n%s" % (len(naughty), naughty)
    for header in HEADERS:
        for naughty in NAUGHTY:
            for method, path in (
                (b"GET", b"/v1/subscription"),
                (b"POST", b"/v1/checkouts"),
                (b"POST", b"/webhooks/stripe"),
            ):
                line = header + naughty + b"\r\n" + (b"" if header.startswith(b"Host") else b"Host: x\r\n")
                yield b"%s %s HTTP/1.1\r\n%sConnection: close\r\nContent-Length: 2\r\n\r\n{}" % (method, path, line)
    yield from REFUSED.values()
    yield from ODD.values()


@pytest.mark.timeout(180)
def test_nothing_a_stranger_sends_makes_a_5xx_or_a_long_line(port: int, folder: Path) -> None:
    """API-65; faults rows 68 to 70: about 500 requests without a credential, and then what the server wrote."""
    wrong = {}
    for request in _hostile():
        with _connect(port) as client:
            with suppress(OSError):  # it may hang up before it has read everything
                client.sendall(request)
            status = _answer(client).partition(b"\r\n")[0]
        if not status.startswith((b"HTTP/1.1 2", b"HTTP/1.1 3", b"HTTP/1.1 4", b"HTTP/1.0 4")):
            wrong[request[:200]] = status
    assert wrong == {}

    lines = (folder / "output").read_bytes().splitlines()
    assert len(lines) > 200, "each refusal is a line"
    assert max(map(len, lines)) <= LINE_BYTES
    assert {line for line in lines if not _is_ours(line)} == set()


def _is_ours(line: bytes) -> bool:
    """One event of our own, in JSON and plain ASCII, and no traceback."""
    event = json.loads(line)
    return line.isascii() and {"timestamp", "level", "event"} <= set(event) and "exception" not in event


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def _answer(client: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer and (piece := client.recv(65536)):
        answer += piece
    return answer


def _delivery(headers: str = "") -> bytes:
    body, signature = deliver(build_event(), at=datetime.now(UTC))
    return HEAD + f"{headers}Stripe-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _signature(body: bytes) -> str:
    return deliver(body, at=datetime.now(UTC))[1]


def _status(port: int, request: bytes) -> bytes:
    with _connect(port) as client:
        client.sendall(request)
        return _answer(client).split(b" ")[1]


def _has_heard(client: socket.socket) -> bool:
    """Whether an answer or the end has come to this client. Nothing is read."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))


def _is_served(port: int) -> bool:
    try:
        with _connect(port) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return _answer(client).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
