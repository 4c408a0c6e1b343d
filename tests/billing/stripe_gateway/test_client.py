"""The gateway over a real socket: whatever is on the other side, it is bounded and ends in one of our errors."""

import gzip
import json
import socketserver
import threading
import time
import tracemalloc
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import stripe

from billing.clock import SYSTEM_CLOCK
from billing.errors import (
    OnelaneError,
    StripeMisconfigured,
    StripeMissing,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
)
from billing.process.settings import load_settings
from billing.services import build_services
from billing.stripe_gateway import GatewayClient, Pace
from billing.stripe_gateway.requests import MOST_BYTES
from onelane.testing.in_process import InProcess
from sandbox.core import Sandbox
from sandbox.server import running

KEY = "sk_test_gateway"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"


def live(base: str, *, timeout: float = 5) -> GatewayClient:
    """The gateway as a worker has it."""
    return GatewayClient(KEY, api_base=base, timeout_seconds=timeout, clock=SYSTEM_CLOCK, pace=Pace(100))


@pytest.fixture
def sandbox() -> Sandbox:
    """A Stripe with one customer."""
    one = Sandbox(seed=1)
    one.request("POST", "/v1/customers", {}, api_key=KEY)
    return one


@pytest.fixture
def customer(sandbox: Sandbox) -> str:
    """The customer's id."""
    return str(next(iter(sandbox.store.newest_first("customer")))["id"])


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("html", {"status": 502}),
        ("html", {"status": 403}),
        ("truncated", {}),
        ("drop_before", {}),
        ("drop_after", {}),
        ("gzip_bomb", {}),
        ("redirect", {"status": 302}),
        ("redirect", {"status": 308}),
    ],
)
def test_answer_that_is_none_is_unclear(sandbox: Sandbox, customer: str, kind: str, fields: dict[str, Any]) -> None:
    """LAN-14, fault 46: to a read and to a write alike."""
    sandbox.faults.add(kind, path="/v1", times=None, **fields)
    with running(sandbox) as base:
        gateway = live(base)
        with pytest.raises(StripeUnclear):
            gateway.get_customer(customer)
        with pytest.raises(StripeUnclear):
            gateway.create_customer({}, idempotency_key="k")
        sandbox.faults.clear()
        assert gateway.get_customer(customer)["id"] == customer  # and nothing is left behind in the connection


def test_answer_that_unpacks_to_a_hundred_megabytes_costs_no_memory(customer: str) -> None:
    """Fault 46. Packed before the memory is watched: the sandbox, in this process, would pack it meanwhile."""
    body = gzip.compress(bytes(100_000_000), 9)
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
    with live_against_bytes(head, body) as base:
        tracemalloc.start()
        try:
            with pytest.raises(StripeUnclear):
                live(base).get_customer(customer)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < 3 * MOST_BYTES


def test_stream_without_an_end_is_cut_off(customer: str) -> None:
    """Fault 46: no length, no end."""
    with (
        live_against_bytes(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 65536, for_ever=True) as base,
        pytest.raises(StripeUnclear),
    ):
        live(base).get_customer(customer)


def test_answer_that_drips_is_given_up_after_the_timeout(customer: str) -> None:
    """One byte now and then keeps a socket's timeout from ever coming; a worker's slot is not held by that."""
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    with live_against_bytes(head, b"x", for_ever=True, pause=0.1) as base, pytest.raises(StripeUnclear):
        live(base, timeout=0.5).create_customer({}, idempotency_key="k")


def test_key_is_not_sent_to_where_a_redirect_leads(sandbox: Sandbox, customer: str) -> None:
    """Fault 46."""
    elsewhere = Sandbox(seed=2)
    with running(elsewhere) as other, running(sandbox) as base:
        sandbox.faults.add("redirect", path="/v1", times=None, headers={"Location": f"{other}/v1/customers"})
        gateway = live(base)
        for call in (lambda: gateway.get_customer(customer), lambda: gateway.create_customer({}, idempotency_key="k")):
            with pytest.raises(StripeUnclear):
                call()
    assert list(elsewhere.log) == []


def test_connection_is_used_again(sandbox: Sandbox, customer: str) -> None:
    """A bounded read ends at the answer's end and gives the connection back."""
    with running(sandbox) as base:
        gateway = live(base)
        for _ in range(5):
            gateway.get_customer(customer)
            gateway.list_customers(created_since=gateway.now())
        pools = gateway._client._requestor._client.inner._pool.pools  # type: ignore[attr-defined]
        (key,) = pools.keys()
        pool = pools[key]
        assert (pool.num_connections, pool.num_requests) == (1, 10)


# --- answers that Stripe does not give, but something in between may


class Fixed(stripe.HTTPClient):
    """A transport that always answers the same."""

    name = "fixed"

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self.answer = (body if isinstance(body, bytes) else json.dumps(body).encode(), status, headers or {})
        self.asked = 0

    def request(self, *_: Any, **__: Any) -> Any:
        self.asked += 1
        return self.answer


def fixed(status: int, body: Any, headers: Mapping[str, str] | None = None) -> GatewayClient:
    """A gateway to it."""
    client = Fixed(status, body, headers)
    return GatewayClient(KEY, api_base=None, timeout_seconds=1, clock=SYSTEM_CLOCK, pace=Pace(100), http_client=client)


REFUSAL = {"error": {"type": "invalid_request_error", "param": "customer", "code": "resource_missing"}}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (502, {"error": "Bad Gateway"}, StripeUnclear),
        (500, {"error": "Internal Server Error", "status": 500}, StripeUnclear),
        (400, {"error": None}, StripeUnclear),
        (500, {"error": [1]}, StripeUnclear),
        (500, {"message": "x"}, StripeUnclear),
        (500, [], StripeUnclear),
        (500, {"error": {"type": "api_error"}}, StripeSavedFailure),
        (403, b"<html>Forbidden by a firewall</html>", StripeUnclear),
        (401, b"", StripeUnclear),
        (401, {"error": {"type": "invalid_request_error"}}, StripeMisconfigured),
        (403, {"error": {"type": "invalid_request_error"}}, StripeMisconfigured),
        (400, REFUSAL, StripeRefused),
        (400, {"error": {"type": "idempotency_error"}}, StripeSavedFailure),
        (404, {"error": {"type": "invalid_request_error", "code": "resource_missing"}}, StripeMissing),
        (404, {"error": {"type": "invalid_request_error", "code": "not_found"}}, StripeMissing),
        (404, {"error": {"type": "invalid_request_error"}}, StripeUnclear),  # of the address
        (402, {"error": {"type": "card_error", "code": "card_declined"}}, StripeRefused),
        (304, REFUSAL, StripeUnclear),
        (409, REFUSAL, StripeUnclear),
        (200, b"", StripeUnclear),
        (200, b"[" * 100_000, StripeUnclear),
        (200, b"\xff\xfe", StripeUnclear),
        (200, [], StripeUnclear),
        (200, None, StripeUnclear),
        (200, {"id": None}, StripeUnclear),
        (200, {"id": 5}, StripeUnclear),
    ],
)
def test_any_answer_to_a_creation_is_one_of_our_errors(status: int, body: Any, error: type[OnelaneError]) -> None:
    """LAN-14, LAN-17, SUB-145: only what is certainly Stripe's own word counts as one."""
    with pytest.raises(error):
        fixed(status, body).create_session({}, idempotency_key="k")


def test_sentence_of_stripes_can_be_written_down_whatever_it_repeats() -> None:
    """LED-80: it repeats what somebody typed; no database takes a NUL or half of a surrogate pair for text."""
    said = {"type": "invalid_request_error", "message": "No such coupon: '\ud800\0\ud83d\ude00'", "param": "a[\udfff]"}
    with pytest.raises(StripeRefused) as raised:
        fixed(400, {"error": said}).get_customer("cus_1")
    assert "No such coupon: '\ufffd\ufffd\U0001f600'" in raised.value.sentence
    assert raised.value.sentence.encode().count(b"\0") == 0


def test_key_that_is_anothers_is_not_final_for_a_payment_page() -> None:
    """LAN-17, SUB-142: the other request may still make one, so a new key would make a second one."""
    gateway = fixed(400, {"error": {"type": "idempotency_error"}})
    with pytest.raises(StripeSavedFailure) as of_page:
        gateway.create_session({}, idempotency_key="k")
    with pytest.raises(StripeSavedFailure) as of_another:
        gateway.create_customer({}, idempotency_key="k")
    assert (of_page.value.replayed, of_another.value.replayed) == (False, True)


@pytest.mark.parametrize("value", ["²", "-1", "1e3", "Wed, 21 Oct 2026 07:28:00 GMT", "", "9" * 5000])
def test_odd_retry_after_is_no_reason_to_fail(value: str) -> None:
    with pytest.raises(StripeUnclear):
        fixed(429, {"error": {"type": "x"}}, {"Retry-After": value}).get_customer("cus_1")


def test_list_that_has_more_and_gives_nothing_is_unclear() -> None:
    """SUB-143: what it lacks may be what bills."""
    with pytest.raises(StripeUnclear):
        fixed(200, {"object": "list", "has_more": True, "data": []}).list_subscriptions("cus_1")


UNKNOWN_ADDRESS = {"error": {"type": "invalid_request_error", "message": "Unrecognized request URL"}}


@pytest.mark.parametrize(
    "body", [b"<html>Not Found</html>", b"", {"message": "no route"}, {"error": "Not Found"}, UNKNOWN_ADDRESS]
)
def test_address_that_is_not_known_says_nothing_of_what_is_planned(body: Any) -> None:
    """SUB-145, CHK-41: what stands in for Stripe may not have it, and says so as Stripe does; a proxy is no answer."""
    gateway = fixed(404, body)
    if body is UNKNOWN_ADDRESS:
        assert gateway.list_coming_schedules("cus_1") == []
    else:
        with pytest.raises(StripeUnclear):
            gateway.list_coming_schedules("cus_1")
    with pytest.raises(StripeUnclear):
        gateway.list_subscriptions("cus_1")


@pytest.mark.parametrize("status", [400, 404])
def test_items_that_stripe_does_not_have_are_no_end_of_their_subscription(
    sandbox: Sandbox, customer: str, status: int
) -> None:
    """SUB-144, SUB-145: that was there a moment ago, and so was the customer."""
    sandbox.seed(
        {"object": "price", "id": f"price_{number}", "unit_amount": 900, "recurring": {"interval": "month"}}
        for number in range(11)
    )
    items = [{"price": f"price_{number}"} for number in range(11)]
    wanted = {"customer": customer, "items": items, "trial_period_days": 9}
    made = sandbox.request("POST", "/v1/subscriptions", wanted, api_key=KEY).body["id"]
    client = GatewayClient(
        KEY, api_base=None, timeout_seconds=1, clock=SYSTEM_CLOCK, pace=Pace(100), http_client=InProcess(sandbox)
    )
    assert len(client.get_subscription(made)["items"]["data"]) == 11
    sandbox.faults.add("status", path="/v1/subscription_items", status=status, code="resource_missing", times=None)
    for call in (
        lambda: client.get_subscription(made),
        lambda: client.list_subscriptions(customer),
        lambda: client.page_subscriptions(after=None),
    ):
        with pytest.raises(StripeUnclear):
            call()
    sandbox.request("DELETE", f"/v1/subscriptions/{made}", api_key=KEY)
    assert len(client.get_subscription(made)["items"]["data"]) == 10, "what is over makes nobody wait"


def test_list_that_changes_while_it_is_read_is_unclear(sandbox: Sandbox, customer: str) -> None:
    """SUB-143: the last of a page is gone before the next one is asked for: a draft that somebody deletes."""
    sandbox.seed([{"object": "price", "id": "price_1", "unit_amount": 900, "recurring": {"interval": "month"}}])
    trial = {"customer": customer, "items": [{"price": "price_1"}], "trial_period_days": 9}
    made = sandbox.request("POST", "/v1/subscriptions", trial, api_key=KEY).body["id"]
    drafts = [
        sandbox.request("POST", "/v1/invoices", {"subscription": made}, api_key=KEY).body["id"] for _ in range(101)
    ]

    class Deleting(InProcess):
        def request(self, method: str, url: str, *rest: Any, **more: Any) -> Any:
            if "starting_after" in url:
                sandbox.request("DELETE", f"/v1/invoices/{drafts[1]}", api_key=KEY)
            return super().request(method, url, *rest, **more)

    client = GatewayClient(
        KEY, api_base=None, timeout_seconds=1, clock=SYSTEM_CLOCK, pace=Pace(100), http_client=Deleting(sandbox)
    )
    with pytest.raises(StripeUnclear):
        client.list_invoices(made)


def test_list_that_gives_the_same_page_for_ever_is_unclear() -> None:
    """LAN-14: a cache in between ignores the cursor; a worker must not collect until its memory is full."""
    page = {"object": "list", "has_more": True, "data": [{"id": "cs_1"}, {"id": "cs_2"}]}
    with pytest.raises(StripeUnclear):
        fixed(200, page).list_subscriptions("cus_1")


def test_errors_carry_nothing_of_the_body() -> None:
    """OPS-4: a session's URL in a cut-off answer reaches no log, not even with the whole chain of errors."""
    with pytest.raises(StripeUnclear) as raised:
        fixed(200, b'{"url": "https://checkout.example/secret"').create_session({}, idempotency_key="k")
    error: BaseException | None = raised.value
    assert raised.value.__suppress_context__
    assert raised.value.__cause__ is None
    assert "secret" not in str(error)


def test_a_processes_pace_is_the_setting(sandbox: Sandbox, customer: str) -> None:
    """STRIPE_MAX_PER_SECOND, as services wire it: the fourteenth request of a second waits for the next one."""
    with running(sandbox) as base:
        settings = load_settings(stripe_api_key=KEY, stripe_api_base=base, stripe_max_per_second=10)
        gateway = build_services(settings).stripe
        assert gateway is not None
        started = time.monotonic()
        for _ in range(14):
            gateway.get_customer(customer)
    assert time.monotonic() - started > 0.35


def test_calls_go_through_the_proxy_of_the_environment_with_our_own_key(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """OPS-26: and neither a proxy's login nor a .netrc takes the key's place."""
    seen: list[bytes] = []
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").write_text("default login somebody password else", "utf-8")
    with live_against_bytes(OK, b'{"id": "cus_1"}', seen=seen) as base:
        monkeypatch.setenv("HTTP_PROXY", base.replace("http://", "http://us%40er:pass@"))
        assert live("http://stripe.invalid").get_customer("cus_1") == {"id": "cus_1"}
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        assert live(base).get_customer("cus_2") == {"id": "cus_1"}
    through, straight = (request.decode().split("\r\n") for request in seen)
    assert through[0] == "GET http://stripe.invalid/v1/customers/cus_1 HTTP/1.1"
    assert f"Proxy-Authorization: Basic {b64encode(b'us@er:pass').decode()}" in map(_titled, through)
    assert straight[0] == "GET /v1/customers/cus_2 HTTP/1.1"
    for request in (through, straight):
        assert [line for line in request if line.startswith("Authorization")] == [f"Authorization: Bearer {KEY}"]


def _titled(header: str) -> str:
    name, _, value = header.partition(": ")
    return f"{name.title()}: {value}"


@contextmanager
def live_against_bytes(
    head: bytes, body: bytes, *, for_ever: bool = False, pause: float = 0, seen: list[bytes] | None = None
) -> Iterator[str]:
    """A server that answers any request with these bytes, and notes in `seen` what it was sent."""
    stopped = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            asked = self.request.recv(65536)
            if seen is not None:
                seen.append(asked)
            self.request.sendall(head + body)
            try:
                while for_ever and not stopped.wait(pause):
                    self.request.sendall(body)
            except OSError:
                return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            stopped.set()
            server.shutdown()
