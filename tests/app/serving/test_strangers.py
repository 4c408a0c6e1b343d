"""What people without a credential can send to the real server: refused in order, and one short line each."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from billing.process.logs import LINE_BYTES
from tests.support.serving import HEAD, connect, read_answer

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
        with subtests.test(name), connect(port) as client:
            client.sendall(request)
            assert read_answer(client).startswith(b"HTTP/1.1 400 ")


ODD = {
    "a path of odd bytes": b"GET /%ff%00%0a%c0%80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an id with a line break": b"GET /v1/checkouts/chk_%0d%0aX:1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a credential in Latin-1": b"GET /v1/subscription HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\n\r\n",
    "ids in Latin-1": b"GET /v1/subscription HTTP/1.1\r\nHost: x\r\nRequest-Id: \xe9\xff\r\nOrigin: \xff\r\n\r\n",
    "3,000 parameters": b"GET /v1/subscription?" + b"a=1&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "bare line feeds": b"GET /nowhere HTTP/1.1\nHost: x\n\n",
    "a bare line feed in a header": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nRequest-Id: abcdefgh\nX-B: c\r\n\r\n",
    "an address in full": b"GET http://evil.example/nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
    "a trailer that is a header": b"POST /v1/checkouts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
    b"Trailer: Authorization\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n",
    "extensions of chunks": b"POST /v1/checkouts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'2;a="\xff";b\r\n{}\r\n0;c\r\n\r\n',
    "the same length twice": b"POST /v1/checkouts HTTP/1.1\r\nHost: x\r\n" + b"Content-Length: 2\r\n" * 2 + b"\r\n{}",
    "3,000 proxies": b"GET /nowhere HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: " + b"1.2.3.4, " * 3000 + b"\r\n\r\n",
    "a host of its own": b"GET /nowhere HTTP/1.1\r\nHost: evil.example\r\nX-Forwarded-Host: evil.example\r\n\r\n",
}


def test_odd_request_gets_an_ordinary_refusal(port: int, subtests: pytest.Subtests) -> None:
    """API-3; faults rows 66 and 68"""
    for name, request in ODD.items():
        with subtests.test(name), connect(port) as client:
            client.sendall(request)
            answer = read_answer(client)
            assert answer.split(b" ")[1] in (b"400", b"401", b"404")
            assert b"evil.example" not in answer


# RFC 9113, 3.4: how a client begins that knows beforehand that the server speaks HTTP/2.
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")


def test_http2_is_not_spoken(port: int) -> None:
    """API-69: who begins with the preface is hung up on, and who asks for an upgrade stays with HTTP/1."""
    with connect(port) as client:
        client.sendall(HTTP2_PREFACE)
        assert client.recv(65536) == b""
    with connect(port) as client:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert read_answer(client).startswith(b"HTTP/1.1 200 ")


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
        with connect(port) as client:
            with suppress(OSError):  # it may hang up before it has read everything
                client.sendall(request)
            status = read_answer(client).partition(b"\r\n")[0]
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
