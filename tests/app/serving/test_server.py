"""The real server on a real socket: what clients that mean no good can and cannot hold up."""

import http.client
import json
import re
import socket
import sqlite3
from contextlib import ExitStack, suppress
from pathlib import Path
from resource import RLIMIT_NOFILE, getrlimit, setrlimit

import pytest

from tests.support.running_dev import descendants, wait_until
from tests.support.serving import (
    HEAD,
    connect,
    delivery,
    has_heard,
    is_served,
    read_answer,
    serving,
    signature,
    started,
    status_of,
)
from tests.support.web import token


def test_silent_clients_keep_nobody_out(port: int) -> None:
    """API-37; faults row 67: five thousand of them, where this machine lets a process have so many."""
    with ExitStack() as stack:
        count = min(5000, getrlimit(RLIMIT_NOFILE)[0] * 3 // 4 - 150)
        clients = [stack.enter_context(connect(port)) for _ in range(count + 100)]
        for client in clients[count:]:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: ")
        assert is_served(port)
        assert not any(map(has_heard, clients)), "served while they are waited for, not after they were hung up on"


def test_slow_bodies_keep_nobody_out(port: int) -> None:
    """API-36, API-37, API-71; faults row 67: more of them than threads, for Stripe's route and a buyer's."""
    head = HEAD + f"Stripe-Signature: {signature(b'')}\r\n".encode()
    buyers = b"POST /v1/checkouts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    buyers += f"Authorization: Bearer {token('slow')}\r\n".encode()
    with ExitStack() as stack:
        clients = [stack.enter_context(connect(port)) for _ in range(2 * 170)]
        for number, client in enumerate(clients):
            client.settimeout(30)
            client.sendall((buyers if number % 2 else head) + b"Content-Length: 1000\r\n\r\n{")
        assert is_served(port)
        assert status_of(port, delivery()) == b"200"
        assert not any(map(has_heard, clients)), "served while their bodies are waited for, not after that"
        told = [read_answer(client).split(b" ")[1] for client in clients]
        assert set(told[::2]) == {b"408"}
        assert set(told[1::2]) == {b"408", b"429"}, "a body that was refused counts for its buyer (API-94)"


def test_ledger_that_stands_still_keeps_nobody_out(folder: Path, port: int) -> None:
    """LED-50: more deliveries wait for it than the web has threads, which are 160."""
    ledger = sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        [before] = ledger.execute("SELECT count(*) FROM events").fetchone()
        ledger.execute("BEGIN IMMEDIATE")
        clients = [stack.enter_context(connect(port)) for _ in range(200)]
        for client in clients:
            client.sendall(delivery())
        assert is_served(port)
        assert is_served(port)
        assert not any(map(has_heard, clients)), "served while they wait, not after that"
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (before,)
        ledger.execute("ROLLBACK")
        assert {read_answer(client).partition(b"\r\n")[0] for client in clients} == {b"HTTP/1.1 200 OK"}
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (before + 200,)


def test_delivery_that_the_ledger_does_not_take_is_told_so(folder: Path, port: int) -> None:
    """LED-3, LED-50: in the words of every refusal."""
    ledger = sqlite3.connect(folder / "ledger.sqlite3", isolation_level=None)
    with ExitStack() as stack:
        stack.callback(ledger.close)
        ledger.execute("BEGIN IMMEDIATE")  # for longer than anybody waits
        client = stack.enter_context(connect(port))
        client.settimeout(9)  # it waits for 5 s
        client.sendall(delivery("Request-Id: mine-1234\r\n"))
        answer = http.client.HTTPResponse(client)
        answer.begin()
        problem = json.loads(answer.read())
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert (problem["code"], problem["request_id"]) == ("ledger_unavailable", "mine-1234")


def test_web_that_is_told_to_stop_answers_what_it_has_accepted(tmp_path: Path) -> None:
    """LED-51, OPS-63: no thread of it waits for these, and it waits for them nonetheless."""
    with serving(tmp_path) as (port, server), ExitStack() as stack:
        ledger = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
        stack.callback(ledger.close)
        ledger.execute("BEGIN IMMEDIATE")
        clients = [stack.enter_context(connect(port)) for _ in range(50)]
        for client in clients:
            client.sendall(delivery())
        assert is_served(port)  # by then the last one is read
        server.terminate()
        wait_until(lambda: not is_served(port), lambda: "it still takes requests")
        ledger.execute("ROLLBACK")
        assert {read_answer(client).partition(b"\r\n")[0] for client in clients} == {b"HTTP/1.1 200 OK"}
        assert server.wait(20) == 0
        assert ledger.execute("SELECT count(*) FROM events").fetchone() == (50,)


def test_web_that_is_told_to_stop_while_it_starts_stops(tmp_path: Path) -> None:
    """OPS-63: its process has begun and does not listen for signals yet; not heard, it would be killed after 30 s."""
    with started(tmp_path) as (_, server):
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
    with connect(port) as client:
        client.sendall(HEAD + f"Stripe-Signature: {signature(b'')}\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        with suppress(OSError):  # the server hangs up
            while sent < 200 * 2**20:
                client.sendall(b"10000\r\n" + b" " * 65536 + b"\r\n")
                sent += 65536
        assert read_answer(client).startswith(b"HTTP/1.1 413 ")
    assert sent < 20 * 2**20  # 1 MiB and what fits into the buffers of two sockets


def test_connection_that_sends_no_request_is_closed(tmp_path: Path) -> None:
    """API-73: silent from the beginning, in the middle of its headers, or after a request."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"
    with serving(tmp_path, KEEP_ALIVE_SECONDS="1") as (port, _), ExitStack() as stack:
        silent, dribbling, idle = (stack.enter_context(connect(port)) for _ in range(3))
        dribbling.sendall(request + b"X-Slow: ")
        idle.sendall(request + b"\r\n")
        for client in (silent, dribbling, idle):
            client.settimeout(30)
            while client.recv(65536):
                pass


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="this system has no such time-out")
def test_connection_whose_client_reads_nothing_is_closed(tmp_path: Path) -> None:
    """API-111, fault 135: it is neither idle nor silent, and 8,192 of them would keep everybody out for good."""
    with serving(tmp_path, KEEP_ALIVE_SECONDS="1") as (port, _), socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.connect(("127.0.0.1", port))
        ends = f":{port:04X} 0100007F:{client.getsockname()[1]:04X} "
        assert ends in Path("/proc/net/tcp").read_text()
        client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n" * 30)  # more than all buffers between hold

        wait_until(lambda: ends not in Path("/proc/net/tcp").read_text(), lambda: "it is closed")
        with connect(port) as reading:
            reading.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n")
            assert read_answer(reading).startswith(b"HTTP/1.1 200 ")
    assert "Traceback" not in (tmp_path / "output").read_text()


def test_headers_are_bounded(port: int) -> None:
    """API-74: the server looks once 64 KiB are there, and may by then have read as many again."""
    for size, status in ((60_000, b"200"), (132_000, b"431")):
        fields = b"".join(b"X-%d: %s\r\n" % (number, b"x" * 6000) for number in range(size // 6000))
        assert status_of(port, b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + fields + b"\r\n") == status


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="this machine does not show a process's limits")
def test_web_may_have_as_many_files_open_as_the_machine_lets_it(tmp_path: Path) -> None:
    """OPS-64: a connection is one, and the usual soft limit is 1,024."""
    soft, hard = getrlimit(RLIMIT_NOFILE)
    setrlimit(RLIMIT_NOFILE, (min(soft, 1024), hard))
    try:
        with serving(tmp_path) as (_, server):
            for pid in (server.pid, *descendants(server.pid)):
                found = re.search(r"Max open files +(\d+) +(\d+)", Path(f"/proc/{pid}/limits").read_text())
                assert found
                assert found[1] == found[2] == str(hard)
    finally:
        setrlimit(RLIMIT_NOFILE, (soft, hard))
