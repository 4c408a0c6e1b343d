"""A NUL and half of a surrogate pair, wherever text comes in, on both databases: refused, or kept, and never a 5xx."""

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from flask import Flask
from werkzeug.test import TestResponse

from billing.database import Database
from billing.models import EventStatus, events
from tests.app.conftest import MakeApp
from tests.app.console.conftest import PASSWORD, Browser
from tests.support.builders import build_event, build_subscription, deliver
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, ORIGIN, Web, token
from tests.support.working import work_due

CHARACTERS = {"NUL": "\0", "half a pair": "\ud800"}


@pytest.fixture
def ledger(database: Database) -> Database:
    """Both: what one of them holds, the other may refuse."""
    return database


@pytest.fixture
def app(make_app: MakeApp) -> Flask:
    return make_app(console_password=PASSWORD)


Place = Callable[[Web, Browser, str], TestResponse]
SERVER = {"bearer": API_KEYS[0]}


def body(**fields: Any) -> Place:
    return lambda web, _, odd: web.checkout(**fill(fields, odd))


def fill(value: Any, odd: str) -> Any:
    return json.loads(json.dumps(value).replace("X", json.dumps(odd)[1:-1]))


def as_bytes(odd: str) -> str:
    """As a header has it: PEP 3333 shows bytes as Latin-1."""
    return odd.encode("utf-8", "surrogatepass").decode("latin-1")


def in_address(odd: str) -> str:
    return quote(odd.encode("utf-8", "surrogatepass"))


def header(name: str) -> Place:
    return lambda web, _, odd: web.checkout(headers={name: f"12345678{as_bytes(odd)}"})


def get(path: str) -> Place:
    return lambda web, _, odd: web.get(path.replace("X", in_address(odd)), **SERVER)


def claim(name: str, value: str) -> Place:
    def ask(web: Web, _: Browser, odd: str) -> TestResponse:
        # Of a new user, whose Stripe customer has what the token says.
        return web.checkout(bearer=token(**{"user": f"of-{name}", name: value.replace("X", odd)}), user=None)

    return ask


def look(path: str) -> Place:
    return lambda _, console, odd: console.get(path.replace("X", in_address(odd)))


def press(path: str, **fields: str) -> Place:
    def pressed(_: Web, console: Browser, odd: str) -> TestResponse:
        # A form's bytes that are no UTF-8 become U+FFFD before anything of ours sees them.
        sent = {name: value.replace("X", odd.encode("utf-8", "replace").decode()) for name, value in fields.items()}
        return console.post(path, **sent)

    return pressed


PLACES: dict[str, tuple[Place, tuple[int, ...]]] = {
    "plan": (body(plan="X"), (422,)),
    "success_url": (body(success_url=f"{ORIGIN}/X"), (422,)),
    "cancel_url": (body(cancel_url=f"{ORIGIN}/X"), (422,)),
    "client_reference_id": (body(client_reference_id="X"), (422,)),
    "a value of metadata": (body(metadata={"referral": "X"}), (422,)),
    "a name of metadata": (body(metadata={"X": "a"}), (422,)),
    "a field's name": (body(X="a"), (422,)),
    "a server's user": (lambda web, _, odd: web.checkout(**SERVER, user_id=odd), (422,)),
    "a plan to switch to": (
        lambda web, _, odd: web.call("POST", "/v1/subscription/switch", json={"plan": odd}),
        (422,),
    ),
    "a portal's return_url": (
        lambda web, _, odd: web.call("POST", "/v1/portal-sessions", json={"return_url": f"{ORIGIN}/{odd}"}),
        (422,),
    ),
    "a customer's id": (
        lambda web, _, odd: web.call("PUT", "/v1/customers/ann", **SERVER, json={"customer_id": f"cus_{odd}"}),
        (422,),
    ),
    "a user in an address": (
        lambda web, _, odd: web.call(
            "PUT", f"/v1/customers/{in_address(odd)}", **SERVER, json={"customer_id": "cus_1"}
        ),
        (400, 404, 422),
    ),
    "a user in a query": (get("/v1/subscription?user_id=X"), (400, 422)),
    "an id in an address": (get("/v1/checkouts/chk_X?user_id=ann"), (400, 404)),
    "Idempotency-Key": (header("Idempotency-Key"), (422,)),
    "Request-Id": (header("Request-Id"), (202,)),
    "Prefer": (header("Prefer"), (202,)),
    "Origin": (header("Origin"), (202,)),
    "User-Agent": (header("User-Agent"), (202,)),
    "the user of a token": (claim("user", "annX"), (401,)),
    "the email of a token": (claim("email", "annX@example.com"), (202,)),
    "another claim of a token": (claim("given_name", "X"), (202,)),
    "a search": (look("/console/find?q=X"), (200, 400)),
    "a filter": (look("/console/events?type=X&customer=X"), (200, 400)),
    "an event's id": (look("/console/event?id=X"), (400, 404)),
    "a user's page": (look("/console/customer?user=X"), (400, 404)),
    "an incident's id": (look("/console/incident?id=X"), (400, 404)),
    "a notification's id": (look("/console/notification?id=X"), (400, 404)),
    "a reason": (press("/console/events/replay", type="invoice.paid", since="all", reason="so X"), (303, 422)),
    "a filter of a form": (press("/console/notifications/resend", customer="X", reason="r"), (303, 422)),
}


@pytest.mark.parametrize("odd", CHARACTERS.values(), ids=CHARACTERS)
def test_text_that_no_database_holds_is_refused_or_left_out(app: Flask, odd: str, subtests: pytest.Subtests) -> None:
    """LED-80, API-3, API-6; fault 130"""
    web, console = Web(app), Browser(app)
    assert console.log_in(name="ann").status_code == 303
    for name, (ask, statuses) in PLACES.items():
        with subtests.test(name):
            assert ask(web, console, odd).status_code in statuses


@pytest.mark.parametrize("odd", CHARACTERS.values(), ids=CHARACTERS)
def test_event_that_has_it_is_kept_worked_and_shown(app: Flask, world: World, odd: str) -> None:
    """LED-80, WHK-8; fault 130: in what a person typed at Stripe, as an escape of JSON."""
    noted = build_subscription(metadata={"type": "kiloclaw", "nonce": odd, f"so {odd}": odd})
    sent, signature = deliver(build_event(subject=noted, id="evt_odd"), at=world.clock.now())
    web, console = Web(app), Browser(app)
    answer = web.call("POST", "/webhooks/stripe", user=None, data=sent, headers={"Stripe-Signature": signature})
    assert answer.status_code == 200
    work_due(stripe=world.stripe, catalog=world.catalog, database=world.database, queue=world.queue, clock=world.clock)
    with world.database.read() as connection:
        row = connection.execute(sa.select(events).where(events.c.event_id == "evt_odd")).one()
    assert row.payload == sent
    assert row.status in (EventStatus.DONE, EventStatus.IGNORED)
    console.log_in(name="ann")
    shown = console.post("/console/event/payload", page="/console/event?id=evt_odd", id="evt_odd")
    assert shown.status_code == 200
    assert json.dumps(odd)[1:-1] in shown.get_data(as_text=True)
