"""What an operator reads of an application that takes no change: each cause in its own words, with no address."""

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from billing.notifications import senders
from billing.notifications.senders import HttpNotifier, NotDelivered
from tests.support.builders import NOON
from tests.support.ports import own_port

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
def elsewhere() -> Iterator[str]:
    """An application that answers the status that its path names."""

    class Answer(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(int(self.path.strip("/")))
            self.send_header("Location", "https://elsewhere.example/")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def silent() -> Iterator[str]:
    """One that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def refusal(url: str) -> NotDelivered:
    with pytest.raises(NotDelivered) as caught:
        HttpNotifier(url, SECRET).send("msg_1", {"type": "test"}, at=NOON)
    assert "127.0.0.1" not in caught.value.sentence
    return caught.value


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (500, "The application answered 500."),
        (302, "The application answered 302, a redirect, which is not followed."),
    ],
)
def test_answer_that_is_no_delivery_is_said_with_its_status(elsewhere: str, status: int, sentence: str) -> None:
    """OPS-233"""
    said = refusal(f"{elsewhere}/{status}")
    assert (said.sentence, said.status) == (sentence, status)


def test_application_that_says_nothing_is_told_from_one_that_is_not_there(
    silent: str, elsewhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-233"""
    monkeypatch.setattr(senders, "TIMEOUT_SECONDS", (3, 0.2))
    assert refusal(f"http://{silent}/hook").sentence == "The application did not answer: nothing came for 0.2 s."
    assert "nothing listens there" in refusal(f"http://127.0.0.1:{own_port()}/hook").sentence
    assert "its name is not known" in refusal("http://application.invalid/hook").sentence
    assert "TLS fails" in refusal(elsewhere.replace("http:", "https:")).sentence
