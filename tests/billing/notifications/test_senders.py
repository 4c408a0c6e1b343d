"""The HTTP call to the application: signed, bounded, and a delivery only by a 2xx."""

import itertools
import json
import socket
import threading
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from standardwebhooks import Webhook

from billing.errors import ConfigurationError
from billing.notifications import senders
from billing.notifications.senders import DEADLINE_SECONDS, HttpNotifier, NotDelivered
from billing.rules.lease import LEASE
from tests.support.builders import NOON

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@contextmanager
def listening(answer=200, headers=(), body=b""):
    """An application on loopback; yields its address and what it got."""
    got = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            length = int(self.headers["content-length"])
            got.append((dict(self.headers), self.rfile.read(length)))
            self.send_response(answer)
            for name, value in headers:
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/changes", got
        finally:
            server.shutdown()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def test_call_is_signed_as_standard_webhooks_has_it():
    """NTF-4: the standard's own library verifies it, over the bytes."""
    from datetime import UTC, datetime

    with listening(204) as (url, got):
        HttpNotifier(url, SECRET).send("msg_1", {"type": "t", "data": {"name": "Zoë"}}, at=datetime.now(UTC))
    [(headers, body)] = got
    assert Webhook(SECRET).verify(body, headers) == {"type": "t", "data": {"name": "Zoë"}}
    lower = {name.lower(): value for name, value in headers.items()}
    assert (lower["webhook-id"], lower["content-type"]) == ("msg_1", "application/json")
    assert json.loads(body)["data"]["name"] == "Zoë"


@pytest.mark.parametrize("status", [301, 307, 400, 404, 410, 429, 500, 503])
def test_anything_but_2xx_is_no_delivery_and_no_redirect_is_followed(status):
    """NTF-3, NTF-5."""
    with listening(status, [("Location", "/elsewhere")]) as (url, got):
        with pytest.raises(NotDelivered) as refusal:
            HttpNotifier(url, SECRET).send("msg_1", {}, at=NOON)
        assert str(status) in refusal.value.sentence
    assert len(got) == 1


def test_answer_without_end_is_not_read():
    """NTF-5."""
    with listening(200, [("Content-Length", str(10**12))], body=b"x" * 1000) as (url, got):
        HttpNotifier(url, SECRET).send("msg_1", {}, at=NOON)
    assert len(got) == 1


def test_answer_that_comes_a_byte_now_and_then_is_given_up(monkeypatch):
    """NTF-20; faults row 123: each byte comes in time, and the answer never does."""
    monkeypatch.setattr(senders, "DEADLINE_SECONDS", 0.3)
    ended = threading.Event()

    def drip(listener):
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            for piece in itertools.chain(b"HTTP/1.1 200 OK\r\nX-Slow: ", itertools.repeat(ord("x"))):
                connection.send(bytes([piece]))
                if ended.wait(0.02):
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        with pytest.raises(NotDelivered):
            HttpNotifier(f"http://127.0.0.1:{listener.getsockname()[1]}/", SECRET).send("msg_1", {}, at=NOON)
        ended.set()
    assert LEASE.total_seconds() > DEADLINE_SECONDS


def test_application_that_is_not_there_is_no_delivery():
    """NTF-3: the sentence names neither the address nor the secret."""
    with listening() as (url, _):
        pass
    with pytest.raises(NotDelivered) as refusal:
        HttpNotifier(url, SECRET).send("msg_1", {}, at=NOON)
    assert "127.0.0.1" not in refusal.value.sentence


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_not base64!", "c2hvcnQ=", "\u00e9"])
def test_secret_that_is_none_is_refused_at_the_start(secret):
    """NTF-4."""
    with pytest.raises(ConfigurationError, match="APP_WEBHOOK_SECRET"):
        HttpNotifier("http://127.0.0.1:1/", secret)
