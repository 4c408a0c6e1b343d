"""A delivery is answered in front of Flask; every other request to that address by Flask. Nobody can tell which."""

import io
import json
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from prometheus_client import REGISTRY
from werkzeug.test import TestResponse

from app import deliveries
from billing.errors import LedgerUnavailable
from billing.models import events
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.checkout_world import World
from tests.support.ways import ways
from tests.support.web import Web

PATH = "/webhooks/stripe"
FINE = build_event(id="evt_fine")

# What is sent, by name: the event (or bytes), and what is said otherwise about the request.
REQUESTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a delivery": (FINE, {}),
    "with an id of the caller's": (FINE, {"headers": {"Request-Id": "their-own-id-7"}}),
    "with an id that will not do": (FINE, {"headers": {"Request-Id": "no good\x7f"}}),
    "with a query": (FINE, {"query_string": "a=b"}),
    "with a credential": (FINE, {"headers": {"Authorization": "Basic c3RyaXBlOndoYXRldmVy"}}),
    "from a page": (FINE, {"headers": {"Origin": "https://shop.example"}}),
    "as a form, it says": (FINE, {"content_type": "application/x-www-form-urlencoded"}),
    "of a type nobody follows": (build_event("product.created", id="evt_product"), {}),
    "without a signature": (FINE, {"headers": {"Stripe-Signature": ""}}),
    "with a forged one": (FINE, {"headers": {"Stripe-Signature": "t=1,v1=" + "0" * 64}}),
    "with a huge one": (FINE, {"headers": {"Stripe-Signature": "x" * 5000}}),
    "with one in Latin-1": (FINE, {"headers": {"Stripe-Signature": "t=1,v1=é"}}),
    "no JSON": (b"{", {}),
    "a hundred thousand brackets": (b"[" * 100_000, {}),
    "empty": (b"", {}),
    "too long": (b"x" * (2**20 + 1), {}),
    "shorter than it says": (FINE, {"content_length": "100000"}),
    "of no length": (FINE, {"content_length": ""}),
    "of a length in words": (FINE, {"content_length": "ten"}),
    "of a length below nothing": (FINE, {"content_length": "-5"}),
    "of a length in other digits": (FINE, {"content_length": "٣"}),
    "in chunks": (FINE, {"chunked": True}),
    "a GET": (FINE, {"method": "GET"}),
    "an OPTIONS": (FINE, {"method": "OPTIONS"}),
    "another path": (FINE, {"path": PATH + "/"}),
}


def send(app: Flask, world: World, event: Any, **how: Any) -> TestResponse:
    """Send one of the requests; `how` says what is different about it."""
    body, signature = deliver(event, at=world.clock.now())
    given = {"Stripe-Signature": signature, "Content-Type": "application/json", **how.pop("headers", {})}
    environ: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    environ["CONTENT_LENGTH"] = how.pop("content_length", str(len(body)))
    if how.pop("chunked", False):
        environ |= {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    path, method = how.pop("path", PATH), how.pop("method", "POST")
    if content_type := how.pop("content_type", None):
        given["Content-Type"] = content_type
    return app.test_client().open(path, method=method, headers=given, environ_overrides=environ, buffered=True, **how)


def seen(answer: TestResponse) -> tuple[Any, ...]:
    """All of an answer but the id that each gets anew."""
    headers = sorted((name, value) for name, value in answer.headers if name != "Request-Id")
    body = answer.get_data(as_text=True)
    request_id = answer.headers["Request-Id"]
    return answer.status, headers, body.replace(request_id, "ID"), request_id.startswith("req_") or request_id


def counted() -> dict[str, float]:
    """The counters of deliveries."""
    return {
        sample.labels["result"]: sample.value
        for metric in REGISTRY.collect()
        if metric.name == "onelane_events_recorded"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


def counted_since(before: dict[str, float]) -> dict[str, float]:
    after = counted()
    return {name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name, 0)}


@pytest.mark.parametrize("name", REQUESTS)
def test_answer_is_the_same_every_way(make_app: MakeApp, world: World, name: str) -> None:
    """WHK-16: answer, row, count and wake-up, of the first delivery and of the second."""
    app = make_app()
    event, how = REQUESTS[name]
    found = []
    for way in ways(app).values():
        app.wsgi_app = way  # type: ignore[method-assign]
        before = counted()
        answers = [seen(send(app, world, event, **how)) for _ in range(2)]
        with world.database.write() as connection:
            columns = [column for column in events.c if column.name != "id"]
            rows = [tuple(row) for row in connection.execute(sa.select(*columns))]
            connection.execute(sa.delete(events))
        woken = [job.kind for job in world.queue.sent]
        world.queue.sent.clear()
        found.append((answers, rows, counted_since(before), woken))
    assert found[0] == found[1]
    assert found[0] == found[2]
    assert all(not answer[0].startswith("5") for answer in found[1][0])


@pytest.mark.parametrize("way", ["in front of Flask", "later"])
def test_delivery_does_not_reach_flask_and_others_do(make_app: MakeApp, world: World, way: str) -> None:
    """WHK-16: else the comparison above compares Flask with itself."""
    app = make_app()
    app.wsgi_app = ways(app)[way]  # type: ignore[method-assign]
    reached = []
    app.before_request(lambda: reached.append(1))
    assert send(app, world, FINE).get_json() == {"status": "recorded"}
    assert send(app, world, FINE).get_json() == {"status": "duplicate"}
    assert reached == []
    send(app, world, FINE, headers={"Stripe-Signature": ""})
    assert reached == [1]


class Failing:
    """A ledger that does not answer, or that breaks."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def autocommit(self) -> Any:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("way", ["in front of Flask", "later"])
@pytest.mark.parametrize(
    ("error", "status"), [(LedgerUnavailable("It does not answer."), 503), (ZeroDivisionError(), 500)]
)
def test_failing_ledger_is_asked_once_and_answered_by_flask(
    make_app: MakeApp, world: World, error: Exception, status: int, way: str
) -> None:
    """WHK-16, API-7: a 503 lets Stripe send again."""
    ledger = Failing(error)
    app = make_app(services={"database": ledger})
    app.wsgi_app = ways(app)[way]  # type: ignore[method-assign]
    answer = send(app, world, FINE, headers={"Request-Id": "their-own-id-7"})
    assert (answer.status_code, ledger.asked) == (status, 1)
    assert answer.headers["Request-Id"] == "their-own-id-7"
    assert answer.mimetype == "application/problem+json"
    assert "Zero" not in answer.get_data(as_text=True)


def test_delivery_is_busy_when_no_seat_is_free(make_app: MakeApp, world: World) -> None:
    """WHK-16, API-36."""
    answer = send(make_app(most_readers=0), world, FINE)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "try_again")
    assert "Retry-After" in answer.headers


def test_headers_of_the_short_way_are_the_documented_ones(web: Web, world: World) -> None:
    """WHK-16, API-53: `Web` holds every answer against the document."""
    body, signature = deliver(FINE, at=world.clock.now())
    answer = web.call("POST", PATH, user=None, data=body, headers={"Stripe-Signature": signature})
    assert json.loads(answer.data) == {"status": "recorded"}
    assert dict(deliveries.HEADERS).items() <= dict(answer.headers).items()
