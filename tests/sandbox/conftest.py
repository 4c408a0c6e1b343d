"""A sandbox with a small catalog, its HTTP side, the real Stripe SDK in front of it, and a webhook receiver."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import stripe

from sandbox import Endpoint, Sandbox
from sandbox.server import running

SECRET = "whsec_of_the_tests"
CATALOG: list[dict[str, Any]] = [
    {"object": "product", "id": "prod_claw", "name": "KiloClaw"},
    {
        "object": "price",
        "id": "price_month",
        "product": "prod_claw",
        "unit_amount": 900,
        "currency": "usd",
        "recurring": {"interval": "month"},
    },
    {
        "object": "price",
        "id": "price_half_year",
        "product": "prod_claw",
        "unit_amount": 4800,
        "currency": "usd",
        "recurring": {"interval": "month", "interval_count": 6},
    },
    {"object": "price", "id": "price_once", "product": "prod_claw", "unit_amount": 2500, "currency": "usd"},
    {"object": "coupon", "id": "half_once", "percent_off": 50, "duration": "once", "name": "First month offer"},
    {"object": "coupon", "id": "all_of_it", "percent_off": 100, "duration": "forever"},
    {"object": "customer", "id": "cus_ann", "email": "ann@example.com", "card": "pm_card_visa"},
    {"object": "customer", "id": "cus_bob", "email": "bob@example.com"},
]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128  # eight deliveries arrive at once


class Receiver:
    """Receives webhooks, keeps what came, answers what it is told to answer."""

    secret = SECRET

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.signatures: list[str] = []
        self.answer: Callable[[int], int] = lambda count: 200  # the how manieth delivery it is -> status
        self.before_answer: Callable[[], None] = lambda: None
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.bodies.append(body)
                receiver.signatures.append(self.headers["Stripe-Signature"])
                status = receiver.answer(len(receiver.bodies))
                receiver.before_answer()
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        self._server = _Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/webhooks"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for body in list(self.bodies)]

    @property
    def types(self) -> list[str]:
        return [event["type"] for event in self.events]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.close()


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    one = Sandbox(seed="tests")
    one.seed(CATALOG)
    yield one
    one.close()


@pytest.fixture
def url(sandbox: Sandbox) -> Iterator[str]:
    with running(sandbox) as base:
        yield base


@pytest.fixture
def client(url: str) -> stripe.StripeClient:
    return stripe.StripeClient("sk_test_of_the_tests", base_addresses={"api": url})


@pytest.fixture
def told(sandbox: Sandbox, receiver: Receiver) -> Receiver:
    """The receiver, configured as the sandbox's endpoint."""
    from sandbox import webhooks

    with sandbox.calling() as call:
        webhooks.configured(call, receiver.url, [SECRET])
    return receiver


def session_params(**more: Any) -> dict[str, Any]:
    return {
        "mode": "subscription",
        "customer": "cus_ann",
        "line_items": [{"price": "price_month", "quantity": 1}],
        "success_url": "http://shop.example/done?session={CHECKOUT_SESSION_ID}",
        "cancel_url": "http://shop.example/left",
        "metadata": {"type": "kiloclaw", "nonce": "n-1"},
        "subscription_data": {"metadata": {"type": "kiloclaw", "nonce": "n-1"}},
        **more,
    }


@pytest.fixture
def open_session(sandbox: Sandbox) -> Callable[..., dict[str, Any]]:
    """Opens a checkout session in process."""

    def make(**more: Any) -> dict[str, Any]:
        answer = sandbox.request("POST", "/v1/checkout/sessions", session_params(**more))
        assert answer.status == 200, answer.body
        return answer.body

    return make


def until(condition: Callable[[], Any], seconds: float = 5.0) -> Any:
    """Waits for what is about to happen, and fails with the deadline."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)
    return found


@pytest.fixture(name="until")
def _until() -> Callable[..., Any]:
    return until


@pytest.fixture
def endpoint(receiver: Receiver) -> Endpoint:
    return Endpoint(receiver.url, SECRET)


@pytest.fixture
def catalog() -> list[dict[str, Any]]:
    return CATALOG


@pytest.fixture
def params() -> Callable[..., dict[str, Any]]:
    return session_params
