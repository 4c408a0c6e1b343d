"""Thin notifications: sent to whoever asked for them, and read by the real SDK."""

from typing import Any

import pytest
import stripe

from sandbox import Sandbox, thin, webhooks
from sandbox.http import create_app

HEALTH = "v2.core.health.event_generation_failure.resolved"


@pytest.fixture
def told_thinly(sandbox: Sandbox, receiver: Any) -> Any:
    """A receiver of thin notifications."""
    with sandbox.calling() as call:
        webhooks.configured(call, receiver.url, [receiver.secret], thinly=True)
    return receiver


def test_the_sdk_reads_a_thin_notification_and_what_it_names(
    client: stripe.StripeClient, sandbox: Sandbox, told_thinly: Any
) -> None:
    # SBX-54
    client.v1.customers.update("cus_ann", {"name": "Ann"})
    assert sandbox.deliveries.wait_until_idle()
    [body], [signature] = told_thinly.bodies, told_thinly.signatures
    note: Any = client.parse_event_notification(body, signature, told_thinly.secret)
    assert (note.type, note.related_object.id, note.related_object.type) == (
        "v1.customer.updated",
        "cus_ann",
        "customer",
    )
    assert b"Ann" not in body
    assert note.fetch_event().type == note.type
    assert note.fetch_related_object().name == "Ann"
    snapshot = next(iter(client.v1.events.list().data))
    assert (snapshot.type, snapshot.id == note.id) == ("customer.updated", False)


def test_each_endpoint_hears_in_its_own_form(sandbox: Sandbox, told: Any, receiver: Any) -> None:
    # SBX-54, SBX-42
    with sandbox.calling() as call:
        webhooks.configured(call, receiver.url, [receiver.secret], ["v1.customer.*"], thinly=True)
    sandbox.start()
    sandbox.request("POST", "/v1/customers", {})
    sandbox.request("POST", "/v1/products", {"name": "of no customer"})
    assert sandbox.deliveries.wait_until_idle()
    assert sorted(event["object"] for event in receiver.events) == ["event", "event", thin.THIN]


def test_an_event_of_v2_alone_is_announced_on_demand(sandbox: Sandbox, told_thinly: Any) -> None:
    # SBX-55
    sandbox.start()
    impact = {
        "event_type": "invoice.paid",
        "related_object": {"id": "in_1", "type": "invoice", "url": "/v1/invoices/in_1"},
    }
    web = create_app(sandbox).test_client()
    made = web.post("/_sandbox/thin_events", json={"type": HEALTH, "data": {"impact": impact}}).get_json()
    assert sandbox.deliveries.wait_until_idle()
    [note] = told_thinly.events
    assert (note["id"], "data" in note) == (made["id"], False)
    assert sandbox.request("GET", f"/v2/core/events/{note['id']}").body["data"] == {"impact": impact}
    assert sandbox.request("GET", "/v1/events").body["data"] == []
    assert sandbox.request("GET", f"/v1/events/{note['id']}").status == 404
    assert web.post("/_sandbox/thin_events", json={}).status_code == 400


def test_an_unknown_thin_event_is_refused_in_words_that_the_sdk_knows(client: stripe.StripeClient) -> None:
    # SBX-3
    made = client.v1.customers.update("cus_ann", {"name": "Ann"})
    with pytest.raises(stripe.InvalidRequestError) as error:
        client.v2.core.events.retrieve("evt_nothing")
    assert (error.value.http_status, made.id) == (404, "cus_ann")
