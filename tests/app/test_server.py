"""The real server on a real socket: what clients that mean no good can and cannot hold up."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from app.ports import free_port
from billing.database import Database
from billing.migrate import upgrade
from tests.dev.running import ROOT, environment, wait_until
from tests.web import JWT_SECRET

pytestmark = pytest.mark.xdist_group("server")

HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """`onelane web` over a SQLite ledger, without Redis."""
    folder = tmp_path_factory.mktemp("web")
    address, number = f"sqlite:///{folder}/ledger.sqlite3", free_port(18_800)
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
    }
    with (folder / "output").open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "app", "web"], cwd=folder, env=environment(**settings), stdout=output, stderr=output
        )
    wait_until(lambda: _is_served(number), lambda: Path(folder / "output").read_text())
    yield number
    server.terminate()
    server.wait(40)


def test_silent_clients_keep_nobody_out(port: int) -> None:
    """API-37; faults row 67"""
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(_connect(port))
        for _ in range(100):
            stack.enter_context(_connect(port)).sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert _seconds_to_be_served(port) < 1


def test_slow_bodies_keep_nobody_out(port: int) -> None:
    """API-36, API-37; faults row 67"""
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(_connect(port)).sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
        assert _seconds_to_be_served(port) < 1


def test_endless_body_is_cut_off_after_little_more_than_the_limit(port: int) -> None:
    """API-35; faults row 54"""
    sent = 0
    with _connect(port) as client:
        client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
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


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def _answer(client: socket.socket) -> bytes:
    answer = b""
    while b"\r\n\r\n" not in answer and (piece := client.recv(65536)):
        answer += piece
    return answer


def _seconds_to_be_served(port: int) -> float:
    started = time.monotonic()
    assert _is_served(port)
    return time.monotonic() - started


def _is_served(port: int) -> bool:
    try:
        with _connect(port) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return _answer(client).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
