"""Deliveries over HTTP: what Stripe is told. What one looks like: tests/billing/webhooks/test_ingest.py."""

from werkzeug.test import TestResponse

from billing.jobs import ProcessEvent
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.checkout_world import World
from tests.support.web import Web

PATH = "/webhooks/stripe"


def _send(web: Web, body: bytes, signature: str | None) -> TestResponse:
    headers = {"Stripe-Signature": signature} if signature is not None else {}
    return web.call("POST", PATH, user=None, data=body, headers=headers)


def test_delivery_is_recorded_once_and_wakes_a_worker(web: Web, world: World) -> None:
    """API-32"""
    body, signature = deliver(build_event(), at=world.clock.now())

    assert _send(web, body, signature).get_json() == {"status": "recorded"}
    assert _send(web, body, signature).get_json() == {"status": "duplicate"}
    assert world.queue.sent == [ProcessEvent(1)]


def test_delivery_with_a_bad_signature_or_body_is_refused(web: Web, world: World) -> None:
    """API-3, API-4"""
    body, signature = deliver(build_event(), at=world.clock.now())
    hollow, fine_signature = deliver({"id": "evt_1"}, at=world.clock.now())

    for sent, code in (
        (_send(web, body + b" ", signature), "invalid_signature"),
        (_send(web, body, None), "invalid_signature"),
        (_send(web, body, "t=1,v1=" + "é" * 10), "invalid_signature"),
        (_send(web, body, "x" * 5000), "invalid_signature"),
        (_send(web, hollow, fine_signature), "invalid_event"),
    ):
        assert (sent.status_code, sent.get_json(force=True)["code"]) == (400, code)
    assert world.queue.sent == []


def test_without_a_signing_secret_nothing_is_believed(make_app: MakeApp, world: World) -> None:
    web = Web(make_app(stripe_webhook_secrets=""))
    body, _ = deliver(build_event(), at=world.clock.now())
    empty = deliver(body, secret="", at=world.clock.now())[1]

    assert _send(web, body, empty).status_code == 400
