"""The changes that an application is sent, against the document's `webhooks`, over a real connection."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from standardwebhooks import Webhook

from billing.clock import SYSTEM_CLOCK
from billing.models import customers
from billing.notifications.deliver import notify
from billing.notifications.senders import HttpNotifier
from billing.subscriptions.access import AccessReason
from billing.subscriptions.context import Context
from billing.subscriptions.projection import CHANGES
from billing.subscriptions.sync import sync_customer
from tests.support.checkout_world import World
from tests.support.web import DOCUMENT, hold

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
Heard = list[tuple[dict[str, str], bytes]]


@pytest.fixture
def application() -> Iterator[tuple[str, Heard]]:
    """An application that takes whatever it is sent: its address, and what it heard."""
    heard: Heard = []

    class Taking(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            heard.append((dict(self.headers.items()), self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Taking)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/changes", heard
    server.shutdown()
    server.server_close()
    thread.join()


def test_every_change_arrives_as_the_document_says(world: World, application: tuple[str, Heard]) -> None:
    """API-102, NTF-4: each kind, its headers, and no field that is not listed."""
    address, heard = application
    for user in ("user_1", "user_2"):
        world.sandbox.pay(str(world.served(user=user, metadata={"referral": "ann"}).session_id))
    subscriptions = {one["customer"]: one["id"] for one in world.objects("subscription")}
    payer, late = (subscriptions[row.customer_id] for row in world.rows(customers))
    for subscription, status in [
        (late, "incomplete"),
        (late, "incomplete_expired"),
        (payer, "past_due"),
        (payer, "unpaid"),
        (payer, "paused"),
        (payer, "active"),
    ]:
        world.sandbox.force_status(subscription, status)
        _sync(world)
    world.sandbox.change_subscription(payer, {"cancel_at_period_end": True})
    _sync(world)
    world.sandbox.force_status(payer, "canceled")
    _sync(world)

    notify(database=world.database, notifier=HttpNotifier(address, SECRET), clock=SYSTEM_CLOCK)

    kinds = set()
    for headers, body in heard:
        change = Webhook(SECRET).verify(body, headers)
        documented = DOCUMENT["webhooks"][change["type"]]["post"]
        assert {one["name"] for one in documented["parameters"] if one["required"]} <= set(headers)
        assert {name for name in headers if name.startswith("webhook-")} <= {
            one["name"] for one in documented["parameters"]
        }
        hold(json.loads(body), documented["requestBody"]["content"]["application/json"]["schema"])
        kinds.add(change["type"])
    assert kinds == CHANGES


def test_reasons_of_access_are_an_enumeration() -> None:
    """API-53"""
    assert DOCUMENT["components"]["schemas"]["AccessReason"]["enum"] == [reason.value for reason in AccessReason]


def test_no_field_has_a_default() -> None:
    """API-53: a generated client demands those that have one."""

    def with_default(value: Any, where: str = "") -> list[str]:
        if isinstance(value, list):
            return [found for one in value for found in with_default(one, where)]
        if not isinstance(value, dict):
            return []
        own = [where] if "default" in value and "type" in value else []
        return own + [found for name, one in value.items() for found in with_default(one, f"{where}/{name}")]

    assert with_default(DOCUMENT["components"]["schemas"]) == []


def _sync(world: World) -> None:
    """Fetch every customer, as their events would have it."""
    names = ("database", "stripe", "queue", "clock", "catalog")
    places = {name: place for name, place in world.collaborators().items() if name in names}
    for row in world.rows(customers):
        sync_customer(row.customer_id, Context(**places))
