"""Idempotency keys: what is replayed, what is not, and for how long."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Sandbox

SESSIONS = "/v1/checkout/sessions"


def count(sandbox: Sandbox) -> int:
    return len(list(sandbox.store.newest_first("checkout_session")))


def test_the_same_key_gets_the_same_old_body(client: stripe.StripeClient, params: Callable[..., Any]) -> None:
    # SBX-20
    first = client.v1.checkout.sessions.create(params(), {"idempotency_key": "k"})
    client.v1.checkout.sessions.expire(first.id)
    again = client.v1.checkout.sessions.create(params(), {"idempotency_key": "k"})
    assert (again.id, again.status, again.url) == (first.id, "open", first.url)
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.last_response.headers
    assert client.v1.checkout.sessions.retrieve(first.id).status == "expired"


def test_other_parameters_under_a_used_key_are_refused(
    client: stripe.StripeClient, sandbox: Sandbox, params: Callable[..., Any]
) -> None:
    # SBX-21
    client.v1.checkout.sessions.create(params(), {"idempotency_key": "k"})
    with pytest.raises(stripe.IdempotencyError) as caught:
        client.v1.checkout.sessions.create(params(client_reference_id="other"), {"idempotency_key": "k"})
    assert caught.value.http_status == 400
    elsewhere = sandbox.request("POST", "/v1/customers", {}, idempotency_key="k", api_key="sk_test_of_the_tests")
    assert elsewhere.body["error"]["type"] == "idempotency_error"
    assert count(sandbox) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"expires_at": "5"},
        {"nonsense": "1"},
        {"success_url": ""},
        {"line_items": [{"price": "price_month", "quantity": "x"}]},
    ],
)
def test_a_validation_failure_does_not_use_up_the_key(
    sandbox: Sandbox, params: Callable[..., Any], change: dict[str, Any]
) -> None:
    # SBX-22
    refused = sandbox.request("POST", SESSIONS, params(**change), idempotency_key="k")
    assert refused.status == 400
    made = sandbox.request("POST", SESSIONS, params(), idempotency_key="k")
    assert (made.status, made.replayed) == (200, False)


@pytest.mark.parametrize("status", [401, 409, 429, 503])
def test_what_never_executed_is_not_saved(sandbox: Sandbox, params: Callable[..., Any], status: int) -> None:
    # SBX-22
    sandbox.faults.add("status", status=status, path=SESSIONS)
    assert sandbox.request("POST", SESSIONS, params(), idempotency_key="k").status == status
    assert sandbox.request("POST", SESSIONS, params(), idempotency_key="k").status == 200


def test_a_wrong_key_is_not_saved(sandbox: Sandbox) -> None:
    # SBX-22
    assert sandbox.request("POST", "/v1/customers", {}, idempotency_key="k", api_key="bad").status == 401
    assert not sandbox.request("POST", "/v1/customers", {}, idempotency_key="k").replayed


def test_a_refusal_that_executed_is_replayed(sandbox: Sandbox, params: Callable[..., Any]) -> None:
    # SBX-20
    sent = params(line_items=[{"price": "price_later", "quantity": 1}])
    refused = sandbox.request("POST", SESSIONS, sent, idempotency_key="k")
    sandbox.seed([{"object": "price", "id": "price_later", "unit_amount": 5, "recurring": {"interval": "month"}}])
    again = sandbox.request("POST", SESSIONS, sent, idempotency_key="k")
    assert again.replayed
    assert (again.status, again.data) == (400, refused.data)


@pytest.mark.parametrize(("kind", "made"), [("save_500_without_effect", 0), ("save_500_with_effect", 1)])
def test_a_500_is_saved_with_or_without_its_effect(
    sandbox: Sandbox, params: Callable[..., Any], kind: str, made: int
) -> None:
    # SBX-20
    sandbox.faults.add(kind, method="POST", path=SESSIONS)
    answers = [sandbox.request("POST", SESSIONS, params(), idempotency_key="k") for _ in range(3)]
    assert [(one.status, one.replayed) for one in answers] == [(500, False), (500, True), (500, True)]
    assert count(sandbox) == made


def test_a_key_in_use_answers_409_until_its_request_is_done(params: Callable[..., Any], until: Any) -> None:
    # SBX-23
    running, go_on = threading.Event(), threading.Event()

    def sleep(seconds: float) -> None:
        running.set()
        assert go_on.wait(5)

    sandbox = Sandbox(sleep=sleep)
    sandbox.faults.add("delay", path="/v1/customers")
    first: list[Any] = []
    thread = threading.Thread(
        target=lambda: first.append(sandbox.request("POST", "/v1/customers", {}, idempotency_key="k"))
    )
    thread.start()
    assert running.wait(5)
    meanwhile = sandbox.request("POST", "/v1/customers", {}, idempotency_key="k")
    assert (meanwhile.status, meanwhile.body["error"]["code"]) == (409, "idempotency_key_in_use")
    go_on.set()
    thread.join(5)
    after = sandbox.request("POST", "/v1/customers", {}, idempotency_key="k")
    assert after.replayed
    assert after.data == first[0].data


def test_a_key_is_forgotten_after_24_hours(sandbox: Sandbox) -> None:
    # SBX-24
    first = sandbox.request("POST", "/v1/customers", {}, idempotency_key="k").body["id"]
    sandbox.advance(24 * 3600 - 5)
    assert sandbox.request("POST", "/v1/customers", {}, idempotency_key="k").body["id"] == first
    sandbox.advance(5)
    assert sandbox.request("POST", "/v1/customers", {}, idempotency_key="k").body["id"] != first


def test_reads_take_no_key_and_long_keys_are_refused(sandbox: Sandbox) -> None:
    # SBX-21
    assert not sandbox.request("GET", "/v1/customers", {}, idempotency_key="k").replayed
    assert not sandbox.request("GET", "/v1/customers", {}, idempotency_key="k").replayed
    assert sandbox.request("POST", "/v1/customers", {}, idempotency_key="k" * 255).status == 200
    assert sandbox.request("POST", "/v1/customers", {}, idempotency_key="k" * 256).status == 400


def test_many_at_once_with_one_key_make_one_customer(url: str, sandbox: Sandbox) -> None:
    # SBX-23
    client = stripe.StripeClient("sk_test_x", base_addresses={"api": url}, max_network_retries=5)
    before = sandbox.store.counts()["customer"]
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(client.v1.customers.create({}, {"idempotency_key": "one"}).id))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(ids) == 20
    assert len(set(ids)) == 1
    assert sandbox.store.counts()["customer"] == before + 1
