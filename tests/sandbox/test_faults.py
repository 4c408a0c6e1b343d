"""Faults and the control plane, over HTTP as others use them."""

import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import stripe

from sandbox import Sandbox


@pytest.fixture
def control(url: str) -> Callable[..., Any]:
    """`control("POST", "/faults", {...})`: the JSON answer of the control plane."""

    def call(method: str, path: str, body: Any = None, *, status: tuple[int, ...] = (200, 201)) -> Any:
        answer = requests.request(method, f"{url}/_sandbox{path}", json=body, timeout=10)
        assert answer.status_code in status, answer.text
        return answer.json()

    return call


def customers(sandbox: Sandbox) -> int:
    return sandbox.store.counts()["customer"]


@pytest.mark.parametrize(("kind", "made"), [("drop_before", 0), ("drop_after", 1)])
def test_a_dropped_connection_is_a_connection_error(
    url: str, control: Callable[..., Any], sandbox: Sandbox, kind: str, made: int
) -> None:
    # SBX-50
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=0)
    control("POST", "/faults", {"kind": kind, "method": "POST", "path": "/v1/customers"})
    before = customers(sandbox)
    with pytest.raises(stripe.APIConnectionError):
        client.v1.customers.create({"name": "x"}, {"idempotency_key": "k"})
    assert customers(sandbox) == before + made
    assert client.v1.customers.create({"name": "x"}, {"idempotency_key": "k"}).name == "x"
    assert customers(sandbox) == before + 1


def test_the_sdk_retries_a_lost_answer_into_the_same_object(
    url: str, control: Callable[..., Any], sandbox: Sandbox
) -> None:
    # SBX-50
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=2)
    control("POST", "/faults", {"kind": "drop_after", "path": "^/v1/customers$", "times": 1})
    before = customers(sandbox)
    made = client.v1.customers.create({"name": "x"})
    assert made.last_response.headers["Idempotent-Replayed"] == "true"
    assert customers(sandbox) == before + 1


def test_a_status_fault_counts_skips_and_carries_headers(url: str, control: Callable[..., Any]) -> None:
    # SBX-50
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": url})
    control(
        "POST",
        "/faults",
        {
            "kind": "status",
            "status": 429,
            "code": "rate_limit",
            "path": "/v1/customers",
            "skip": 1,
            "times": 2,
            "headers": {"Stripe-Rate-Limited-Reason": "global-rate", "Stripe-Should-Retry": "false"},
        },
    )
    client.v1.customers.list()
    for _ in range(2):
        with pytest.raises(stripe.RateLimitError) as caught:
            client.v1.customers.list()
    assert (caught.value.headers or {})["Stripe-Rate-Limited-Reason"] == "global-rate"
    client.v1.customers.list()
    assert control("GET", "/faults")["faults"] == []


def test_html_truncation_redirects_and_bombs(url: str, control: Callable[..., Any]) -> None:
    # SBX-50
    headers = {"Authorization": "Bearer sk_test_1"}

    def get(kind: str, **more: Any) -> requests.Response:
        control("POST", "/faults", {"kind": kind, "path": "/v1/customers", **more})
        return requests.get(f"{url}/v1/customers", headers=headers, timeout=10, allow_redirects=False, stream=True)

    html = get("html")
    assert (html.status_code, html.headers["Content-Type"]) == (502, "text/html")
    redirect = get("redirect")
    assert (redirect.status_code, redirect.headers["Location"]) == (302, "http://127.0.0.1:9/elsewhere")
    with pytest.raises(requests.exceptions.JSONDecodeError):
        get("truncated").json()
    bomb = get("gzip_bomb")
    assert bomb.headers["Content-Encoding"] == "gzip"
    assert int(bomb.headers["Content-Length"]) < 1_000_000
    bomb.close()


@pytest.mark.parametrize("kind", ["delay", "delay_before", "delay_after"])
def test_a_delay_outlasts_the_clients_patience_and_is_executed_late(
    url: str, control: Callable[..., Any], sandbox: Sandbox, until: Any, kind: str
) -> None:
    # SBX-50
    before = customers(sandbox)
    control("POST", "/faults", {"kind": kind, "seconds": 0.3, "path": "/v1/customers"})
    with pytest.raises(requests.exceptions.ReadTimeout):
        requests.post(f"{url}/v1/customers", headers={"Authorization": "Bearer sk_test_1"}, timeout=0.1)
    until(lambda: customers(sandbox) == before + 1)


def test_an_unknown_fault_is_refused(control: Callable[..., Any], sandbox: Sandbox) -> None:
    # SBX-50
    assert "known" in control("POST", "/faults", {"kind": "meteor"}, status=(400,))["error"]["message"]
    control("POST", "/faults", {"kind": "html", "colour": 1}, status=(400,))
    control("POST", "/faults", {"kind": "html", "path": "("}, status=(400,))
    with pytest.raises(ValueError, match="known"):
        sandbox.faults.add("meteor")


def test_the_control_plane_pays_declines_and_forces(
    control: Callable[..., Any], sandbox: Sandbox, open_session: Callable[..., Any]
) -> None:
    # SBX-51
    id = open_session()["id"]
    assert control("POST", f"/checkout_sessions/{id}/decline")["status"] == "open"
    paid = control("POST", f"/checkout_sessions/{id}/pay")
    assert paid["status"] == "complete"
    forced = control("POST", f"/subscriptions/{paid['subscription']}/status", {"status": "past_due"})
    assert forced["status"] == "past_due"
    other = open_session(customer="cus_bob")["id"]
    assert control("POST", f"/checkout_sessions/{other}/challenge")["status"] == "open"
    assert control("POST", f"/checkout_sessions/{other}/authenticate", {"succeeds": False})["status"] == "open"
    assert control("POST", f"/checkout_sessions/{other}/authenticate")["status"] == "complete"
    control("POST", f"/checkout_sessions/{id}/pay", status=(400,))
    control("POST", "/checkout_sessions/cs_no/pay", status=(404,))
    control("POST", f"/subscriptions/{paid['subscription']}/status", {"status": "happy"}, status=(400,))


def test_the_control_plane_moves_the_clock(
    control: Callable[..., Any], sandbox: Sandbox, open_session: Callable[..., Any]
) -> None:
    # SBX-18
    id = open_session()["id"]
    control("POST", "/clock", {"advance_seconds": 25 * 3600})
    assert sandbox.request("GET", f"/v1/checkout/sessions/{id}").body["status"] == "expired"
    control("POST", "/clock", {"now": 2_000_000_000})
    assert 2_000_000_000 <= control("GET", "/clock")["now"] < 2_000_000_060
    control("POST", "/clock", {"advance_seconds": "soon"}, status=(400,))


def test_requests_are_on_record(control: Callable[..., Any], client: stripe.StripeClient) -> None:
    # SBX-52
    for _ in range(2):
        client.v1.customers.create({}, {"idempotency_key": "k"})
    client.v1.customers.retrieve("cus_ann")
    found = control("GET", "/requests?method=POST&path=/v1/customers")
    assert [(one["idempotency_key"], one["replayed"]) for one in found["requests"]] == [("k", False), ("k", True)]
    assert control("GET", "/requests")["count"] == 3
    control("DELETE", "/requests")
    assert control("GET", "/requests")["count"] == 0


def test_seeds_endpoints_deliveries_and_reset_over_http(
    control: Callable[..., Any], sandbox: Sandbox, told: Any
) -> None:
    # SBX-51
    assert control("POST", "/seed", [{"object": "customer", "id": "cus_new"}])["seeded"] == 1
    sandbox.request("POST", "/v1/customers/cus_new", {"name": "N"})
    assert sandbox.deliveries.wait_until_idle()
    (record,) = control("GET", "/deliveries?status=succeeded")["deliveries"]
    assert control("POST", "/deliveries", {"event": record["event"], "duplicate": 1})["redelivered"] == 1
    assert sandbox.deliveries.wait_until_idle()
    assert len(told.bodies) == 3
    control("POST", "/deliveries", {"event": "evt_no"}, status=(404,))
    control("POST", "/deliveries", {"duplicate": "many"}, status=(400,))
    made = control("POST", "/webhook_endpoints", {"url": told.url, "secrets": ["a", "b"]})
    assert "secret" not in str(made)
    assert control("GET", "/state")["counts"]["customer"] == 3
    control("POST", "/reset")
    assert "customer" not in control("GET", "/state")["counts"]


def test_a_hundred_connections_are_served_at_once(url: str) -> None:
    # SBX-53
    headers = {"Authorization": "Bearer sk_test_1"}
    sessions = [requests.Session() for _ in range(100)]

    def get(session: requests.Session) -> list[int]:
        return [session.get(f"{url}/v1/customers", headers=headers, timeout=10).status_code for _ in range(3)]

    with ThreadPoolExecutor(100) as pool:
        assert [status for found in pool.map(get, sessions) for status in found] == [200] * 300
    for session in sessions:
        session.close()


def test_a_connection_is_kept_for_the_next_request(url: str) -> None:
    # SBX-53
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        for _ in range(3):
            connection.sendall(b"GET /v1/balance HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer sk_test_1\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_a_list_of_ten_costs_the_same_however_much_there_is(sandbox: Sandbox) -> None:
    # SBX-53
    costs = []
    sandbox.give_card("cus_bob")
    for made in (30, 300):
        for n in range(made):
            body = {"customer": "cus_ann" if n % 3 else "cus_bob", "items": [{"price": "price_month"}]}
            sandbox.request("POST", "/v1/subscriptions", body)
        calls = 0

        def count(frame: object, event: str, _argument: object) -> None:
            nonlocal calls
            calls += event == "call"

        sys.setprofile(count)
        answer = sandbox.request("GET", "/v1/subscriptions", {"customer": "cus_bob"})
        sys.setprofile(None)
        assert len(answer.data) > 10_000
        costs.append(calls)
    assert costs[1] <= costs[0] * 1.1


def test_a_stale_list_does_not_know_what_was_just_made(open_session: Callable[..., Any], sandbox: Sandbox) -> None:
    # SBX-50
    old = open_session()["id"]
    sandbox.advance(60)
    new = open_session()["id"]
    path = "/v1/checkout/sessions"
    sandbox.faults.add("stale_list", method="GET", path=path, seconds=30)

    def ids() -> list[str]:
        return [one["id"] for one in sandbox.request("GET", path, {"customer": "cus_ann"}).body["data"]]

    assert ids() == [old]
    assert ids() == [new, old]
    assert sandbox.request("GET", f"{path}/{new}").status == 200


def test_a_rate_limit_refuses_what_is_beyond_it_and_executes_nothing_of_that(
    url: str, control: Callable[..., Any], sandbox: Sandbox
) -> None:
    # SBX-50
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=0)
    control("POST", "/faults", {"kind": "rate_limit", "path": "/v1/customers", "per_second": 3, "times": None})
    before, refused = customers(sandbox), 0
    with ThreadPoolExecutor(12) as threads:
        for done in [threads.submit(client.v1.customers.create, {"name": "x"}) for _ in range(12)]:
            error = done.exception()
            if error is not None:
                assert isinstance(error, stripe.RateLimitError)
                assert (error.http_status, error.headers["Stripe-Rate-Limited-Reason"]) == (429, "global-rate")
                refused += 1
    assert refused > 0
    assert customers(sandbox) == before + 12 - refused
    control("DELETE", "/faults")
    client.v1.customers.create({"name": "x"})
