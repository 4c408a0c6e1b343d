"""The web as its own process: it answers what it has begun, and lets go of clients that dawdle."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.dev.embedded import prepare_valkey, valkey_answers
from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.process.run_with_parent import launched
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, command_line, descendants, environment, running, wait_until

PRINTED_KEY = """
import app
from app.serving.server import load_web

app.create_app = lambda settings, services, **_: exit(print(settings.stripe_api_key, services.stripe))
load_web(1)
"""


@pytest.fixture(params=[1, 2], ids=["one process", "two processes"])
def web(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """`onelane web` on a ledger and a Valkey, with nobody who works jobs: a checkout waits its full time."""
    ledger = Database(f"sqlite:///{tmp_path}/ledger")
    upgrade(ledger)
    ledger.close()
    redis_port, port = own_port(), own_port()
    with (tmp_path / "output").open("wb") as output:
        valkey = subprocess.Popen(launched(prepare_valkey(tmp_path / "valkey", port=redis_port)), stdout=output)
        settings = environment(
            PYTHONPATH=str(ROOT),
            PORT=str(port),
            DATABASE_URL=f"sqlite:///{tmp_path}/ledger",
            REDIS_URL=f"redis://127.0.0.1:{redis_port}/0",
            CATALOG=str(ROOT / "catalog.toml"),
            AUTH_API_KEYS="server-key-of-the-tests-0",
            REDIRECT_ORIGINS="https://app.example.com",
            CHECKOUT_WAIT_SECONDS="2",
            STRIPE_API_KEY="sk_test_of_the_environment",
        )
        server = subprocess.Popen(
            launched([sys.executable, "-P", "-m", "onelane", "web", "--workers", str(request.param)]),
            cwd=tmp_path,
            env=settings,
            stdout=output,
            stderr=output,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(
            lambda: valkey_answers(redis_port) and _ready(address), lambda: (tmp_path / "output").read_text("utf-8")
        )
        yield server, address
    finally:
        for process in (server, valkey):
            process.kill()
            process.wait()


def test_sigterm_lets_the_web_answer_what_it_has_begun(web: tuple["subprocess.Popen[bytes]", str]) -> None:
    """OPS-24"""
    server, address = web
    answers: list[int] = []
    waiting = threading.Thread(target=lambda: answers.append(_ask(address)))
    waiting.start()
    time.sleep(0.7)  # the request waits for 2 s, since nobody works it: this is the middle
    assert answers == []
    below = descendants(server.pid)
    server.send_signal(signal.SIGTERM)
    waiting.join(10)
    assert answers == [202]
    assert server.wait(10) == 0
    assert running(below) == []


def test_killed_web_leaves_no_process_that_holds_the_port(web: tuple["subprocess.Popen[bytes]", str]) -> None:
    """OPS-6"""
    server, address = web
    below = descendants(server.pid)
    assert below
    os.kill(server.pid, signal.SIGKILL)
    server.wait()
    wait_until(lambda: not running(below), lambda: f"orphans {below}", seconds=5)
    assert not _ready(address)


def test_process_of_the_web_that_dies_is_followed_by_another_one(web: tuple["subprocess.Popen[bytes]", str]) -> None:
    """WHK-97"""
    server, address = web
    successor = _killed(server)
    wait_until(lambda: _ready(address), lambda: "an answer of the next one")
    assert successor in descendants(server.pid)
    assert server.poll() is None


def test_web_whose_process_dies_at_once_again_says_so_and_ends(
    web: tuple["subprocess.Popen[bytes]", str], tmp_path: Path
) -> None:
    """WHK-97"""
    server, _ = web
    below = descendants(server.pid)
    os.kill(_killed(server), signal.SIGKILL)
    assert server.wait(30) == 1
    wait_until(lambda: not running(below), lambda: f"left {running(below)}")
    lines = [json.loads(line) for line in (tmp_path / "output").read_text("utf-8").splitlines() if line[:1] == "{"]
    assert lines[-1]["event"] == "web.given_up"
    assert lines[-1]["level"] == "error"


def _killed(server: "subprocess.Popen[bytes]") -> int:
    """Kill a process of the web; the one that was started in its place."""
    before = _serving(server)
    os.kill(before[0], signal.SIGKILL)
    wait_until(lambda: set(_serving(server)) - set(before), lambda: "another process")
    return (set(_serving(server)) - set(before)).pop()


def _serving(server: "subprocess.Popen[bytes]") -> list[int]:
    """Its processes that serve; processes that are spawned have one of Python's own beside them."""
    return [pid for pid in descendants(server.pid) if "resource_tracker" not in command_line(pid)]


def test_client_that_dribbles_its_headers_disturbs_nobody(web: tuple["subprocess.Popen[bytes]", str]) -> None:
    """Faults row 67."""
    _, address = web
    port = int(address.rsplit(":", 1)[1])
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    try:
        for connection in slow:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        assert _ready(address)
    finally:
        for connection in slow:
            connection.close()


def test_web_takes_no_stripe_key_from_anywhere(tmp_path: Path) -> None:
    """OPS-15"""
    (tmp_path / ".env").write_text("STRIPE_API_KEY=sk_test_of_the_file\n", "utf-8")
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    shown = subprocess.run(
        [sys.executable, "-c", PRINTED_KEY],
        cwd=tmp_path,
        env=environment(PYTHONPATH=str(ROOT), STRIPE_API_KEY="sk_test_of_the_environment"),
        capture_output=True,
        text=True,
    )
    assert shown.stdout == "None None\n", shown.stderr


def test_key_that_the_web_was_started_with_is_gone_from_proc(
    tmp_path: Path, web: tuple["subprocess.Popen[bytes]", str]
) -> None:
    """OPS-112; faults row 125: also from the processes that serve."""
    if not Path("/proc").exists():
        pytest.skip("the environment of a process is read from /proc")
    server, address = web
    wait_until(lambda: _ready(address), "it is ready")
    for pid in (server.pid, *descendants(server.pid)):
        assert b"STRIPE_API_KEY" not in Path(f"/proc/{pid}/environ").read_bytes()


def _ask(address: str) -> int:
    body = {
        "user_id": "ann",
        "plan": "standard",
        "success_url": "https://app.example.com/ok",
        "cancel_url": "https://app.example.com/no",
    }
    request = urllib.request.Request(
        f"{address}/v1/checkouts",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": "Bearer server-key-of-the-tests-0"},
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def _ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/readyz", timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
