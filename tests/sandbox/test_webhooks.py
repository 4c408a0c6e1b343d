"""Webhooks: signed as Stripe signs, at least once, again until somebody says 2xx."""

import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
import stripe

from sandbox import Endpoint, Sandbox
from sandbox import delivery as delivery_module
from sandbox.server import running


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery_module, "BACKOFF_SECONDS", (0.05, 0.1, 0.1, 0.1))


def test_the_sdk_accepts_the_signature(sandbox: Sandbox, told: Any, until: Any) -> None:
    # SBX-40
    sandbox.start()
    made = sandbox.request("POST", "/v1/customers", {"email": "é@example.com"}, idempotency_key="k").body
    until(lambda: told.bodies)
    event = stripe.Webhook.construct_event(told.bodies[0], told.signatures[0], told.secret)
    assert (event.type, event.data.object["id"]) == ("customer.created", made["id"])
    assert (event.request.idempotency_key, event.pending_webhooks) == ("k", 1)
    with pytest.raises(stripe.SignatureVerificationError):
        stripe.Webhook.construct_event(told.bodies[0] + b" ", told.signatures[0], told.secret)


def test_a_paid_checkout_delivers_its_twelve_events(
    sandbox: Sandbox, told: Any, open_session: Callable[..., Any], until: Any
) -> None:
    # SBX-13
    sandbox.start()
    sandbox.pay(open_session()["id"])
    until(lambda: len(told.bodies) == 12)
    assert {"checkout.session.completed", "customer.subscription.created", "invoice.paid"} <= set(told.types)


def test_a_delivery_is_repeated_with_a_new_signature_until_2xx(sandbox: Sandbox, told: Any, until: Any) -> None:
    # SBX-41
    told.answer = lambda count: (500, 302, 200)[min(count, 3) - 1]
    sandbox.start()
    sandbox.request("POST", "/v1/customers", {})
    until(lambda: len(told.bodies) == 3)
    assert sandbox.deliveries.wait_until_idle()
    assert len(set(told.bodies)) == 1
    (record,) = sandbox.store.all("delivery")
    assert [one["status"] for one in record["tries"]] == [500, 302, 200]
    assert (record["status"], record["attempts"]) == ("succeeded", 3)
    event = sandbox.request("GET", f"/v1/events/{record['event']}").body
    assert event["pending_webhooks"] == 0


def test_the_next_attempt_waits_by_the_sandboxes_clock(
    sandbox: Sandbox, told: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # SBX-41
    monkeypatch.setattr(delivery_module, "BACKOFF_SECONDS", (3600.0, 3600.0))
    told.answer = lambda count: 500 if count == 1 else 200
    sandbox.start()
    sandbox.request("POST", "/v1/customers", {})
    until(lambda: [one for one in sandbox.store.all("delivery") if one["attempts"] == 1])
    assert len(told.bodies) == 1
    sandbox.advance(3601)
    assert sandbox.deliveries.wait_until_idle()
    assert len(told.bodies) == 2


def test_an_endpoint_that_is_down_is_tried_again(sandbox: Sandbox, until: Any) -> None:
    # SBX-41
    from sandbox import webhooks

    with sandbox.calling() as call:
        webhooks.configured(call, "http://127.0.0.1:1/nobody", ["whsec_x"])
    sandbox.start()
    sandbox.request("POST", "/v1/customers", {})
    record = until(lambda: [one for one in sandbox.store.all("delivery") if one["attempts"] >= 2])[0]
    assert record["tries"][0] == {
        "at": record["tries"][0]["at"],
        "status": None,
        "error": "ConnectionRefusedError",
        "seconds": record["tries"][0]["seconds"],
    }


def test_every_active_secret_signs_while_one_is_rolled(sandbox: Sandbox, receiver: Any, until: Any) -> None:
    # SBX-40
    from sandbox import webhooks

    with sandbox.calling() as call:
        webhooks.configured(call, receiver.url, ["whsec_old", "whsec_new"])
    sandbox.start()
    sandbox.request("POST", "/v1/customers", {})
    until(lambda: receiver.bodies)
    for secret in ("whsec_old", "whsec_new"):
        assert stripe.Webhook.construct_event(receiver.bodies[0], receiver.signatures[0], secret)


def test_an_endpoint_hears_only_the_types_it_asked_for(
    client: stripe.StripeClient, sandbox: Sandbox, receiver: Any
) -> None:
    # SBX-42
    made = client.v1.webhook_endpoints.create({"url": receiver.url, "enabled_events": ["customer.subscription.*"]})
    assert made.secret.startswith("whsec_")
    assert "secret" not in client.v1.webhook_endpoints.retrieve(made.id)
    client.v1.customers.update("cus_ann", {"name": "Ann"})
    client.v1.subscriptions.create({"customer": "cus_ann", "items": [{"price": "price_month"}]})
    assert sandbox.deliveries.wait_until_idle()
    assert receiver.types == ["customer.subscription.created"]
    assert stripe.Webhook.construct_event(receiver.bodies[0], receiver.signatures[0], made.secret)
    client.v1.webhook_endpoints.update(made.id, {"disabled": True})
    client.v1.subscriptions.create({"customer": "cus_ann", "items": [{"price": "price_month"}]})
    client.v1.webhook_endpoints.delete(made.id)
    assert len(receiver.bodies) == 1


def test_deliveries_can_be_paused_duplicated_dropped_lost_and_repeated(sandbox: Sandbox, told: Any, until: Any) -> None:
    # SBX-43
    sandbox.start()
    settings = sandbox.deliveries.settings
    settings.update({"paused": True})
    sandbox.request("POST", "/v1/customers", {"name": "paused"})
    assert not sandbox.deliveries.wait_until_idle(0.1)
    assert told.bodies == []
    settings.update({"paused": False, "duplicate": 2})
    sandbox.deliveries.nudge()
    until(lambda: len(told.bodies) == 3)
    assert sandbox.deliveries.wait_until_idle()
    settings.update({"duplicate": 0, "drop": 1})
    sandbox.request("POST", "/v1/customers", {"name": "dropped"})
    until(lambda: len(told.bodies) == 4)
    assert sandbox.deliveries.wait_until_idle()
    settings.update({"lose": 1})
    lost = sandbox.request("POST", "/v1/customers", {"name": "lost"}).body["id"]
    event = next(sandbox.store.newest_first("event"))
    assert event["data"]["object"]["id"] == lost
    assert len(told.bodies) == 4
    with sandbox.lock:
        assert sandbox.deliveries.again(event["id"]) == 1
    until(lambda: len(told.bodies) == 5)
    assert told.events[-1]["id"] == event["id"]
    with pytest.raises(ValueError, match="unknown setting"):
        settings.update({"speed": 3})


def test_paying_waits_for_the_answer_to_the_completed_session(
    sandbox: Sandbox, told: Any, open_session: Callable[..., Any], until: Any
) -> None:
    # SBX-44
    go_on = threading.Event()
    told.before_answer = lambda: go_on.wait(5) and None
    sandbox.start()
    session = open_session()
    payer = threading.Thread(target=sandbox.pay, args=(session["id"],), kwargs={"wait": 5})
    payer.start()
    until(lambda: "checkout.session.completed" in told.types)
    assert payer.is_alive()
    go_on.set()
    payer.join(5)
    assert not payer.is_alive()


def test_events_are_listed_by_type_and_by_delivery(sandbox: Sandbox, told: Any) -> None:
    # SBX-45
    sandbox.request("POST", "/v1/customers", {})
    sandbox.request("POST", "/v1/customers/cus_ann", {"name": "A"})
    sandbox.request("POST", "/v1/customers/cus_ann", {"name": "B"})

    def types(**filters: Any) -> list[str]:
        return [one["type"] for one in sandbox.request("GET", "/v1/events", filters).body["data"]]

    assert types() == ["customer.updated", "customer.updated", "customer.created"]
    assert types(type="customer.created") == ["customer.created"]
    assert types(types=["customer.created", "invoice.paid"]) == ["customer.created"]
    assert len(types(delivery_success="false")) == 3
    sandbox.start()
    assert sandbox.deliveries.wait_until_idle()
    assert len(types(delivery_success="true")) == 3
    oldest = sandbox.request("GET", "/v1/events", {}).body["data"][-1]["id"]
    assert types(ending_before=oldest) == ["customer.updated", "customer.updated"]


def test_an_endpoint_that_is_started_at_another_address_takes_its_deliveries_along(
    tmp_path: Any, receiver: Any
) -> None:
    # SBX-46
    path = tmp_path / "state.db"
    first = Sandbox(state_path=path, endpoints=[Endpoint("http://127.0.0.1:1/hooks", receiver.secret)])
    made = first.request("POST", "/v1/customers", {}).body["id"]
    first.close()
    second = Sandbox(state_path=path, endpoints=[Endpoint(receiver.url, receiver.secret)])
    with running(second):
        assert second.deliveries.wait_until_idle()
    second.close()
    assert [json.loads(body)["data"]["object"]["id"] for body in receiver.bodies] == [made]
    assert [one["url"] for one in second.store.all("webhook_endpoint")] == [receiver.url]
    third = Sandbox(state_path=path)
    assert third.store.all("webhook_endpoint") == []
    third.close()


def test_several_secrets_of_the_start_all_sign(receiver: Any) -> None:
    # SBX-40
    sandbox = Sandbox(endpoints=[Endpoint(receiver.url, "whsec_new, whsec_old")])
    with running(sandbox):
        sandbox.request("POST", "/v1/customers", {})
        assert sandbox.deliveries.wait_until_idle()
    sandbox.close()
    assert [header.count("v1=") for header in receiver.signatures] == [2]


def test_undelivered_webhooks_survive_a_restart(tmp_path: Any, endpoint: Endpoint, receiver: Any) -> None:
    # SBX-46
    path = tmp_path / "state.db"
    first = Sandbox(state_path=path, endpoints=[endpoint])
    made = first.request("POST", "/v1/customers", {}).body["id"]
    first.close()
    second = Sandbox(state_path=path, endpoints=[endpoint])
    with running(second):
        assert second.deliveries.wait_until_idle()
    second.close()
    assert [json.loads(body)["data"]["object"]["id"] for body in receiver.bodies] == [made]
    assert len(second.store.all("webhook_endpoint")) == 1
