"""`onelane web` on a real socket, and clients that write their requests byte by byte."""

import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.process.run_with_parent import launched
from tests.support.builders import SECRET, build_event, deliver
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment, wait_until
from tests.support.web import JWT_SECRET

HEAD = b"POST /webhooks/stripe HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@contextmanager
def serving(folder: Path, **more: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The web, once it answers; its port and its process. What it writes is in `output`."""
    with started(folder, **more) as (number, server):
        wait_until(lambda: is_served(number), lambda: Path(folder / "output").read_text())
        yield number, server


@contextmanager
def started(folder: Path, **more: str) -> Iterator[tuple[int, "subprocess.Popen[bytes]"]]:
    """The same from its first moment."""
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


def connect(port: int) -> socket.socket:
    """A connection that waits five seconds at the most."""
    return socket.create_connection(("127.0.0.1", port), timeout=5)


def read_answer(client: socket.socket) -> bytes:
    """Until the end of the headers, and what came with them."""
    answer = b""
    while b"\r\n\r\n" not in answer and (piece := client.recv(65536)):
        answer += piece
    return answer


def delivery(headers: str = "") -> bytes:
    """A signed delivery, whole."""
    body, signature = deliver(build_event(), at=datetime.now(UTC))
    return HEAD + f"{headers}Stripe-Signature: {signature}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def signature(body: bytes) -> str:
    """As Stripe would sign this body now."""
    return deliver(body, at=datetime.now(UTC))[1]


def status_of(port: int, request: bytes) -> bytes:
    """The status of one request."""
    with connect(port) as client:
        client.sendall(request)
        return read_answer(client).split(b" ")[1]


def has_heard(client: socket.socket) -> bool:
    """Whether an answer or the end has come to this client. Nothing is read."""
    poll = select.poll()
    poll.register(client, select.POLLIN)
    return bool(poll.poll(0))


def is_served(port: int) -> bool:
    try:
        with connect(port) as client:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            return read_answer(client).startswith(b"HTTP/1.1 200 ")
    except OSError:
        return False
