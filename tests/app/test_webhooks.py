"""Deliveries over HTTP: what Stripe is told, by both callers (what one looks like: test_ingest.py)."""

import io
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from flask import Flask
from prometheus_client import REGISTRY
from structlog.testing import capture_logs
from werkzeug.test import TestResponse

from app import webhooks
from billing.coordination.jobs import WorkEvents
from billing.errors import LedgerUnavailable
from billing.models import events
from billing.webhooks.group_commit import GroupCommit
from tests.app.conftest import MakeApp
from tests.support.builders import build_event, deliver
from tests.support.callers import CALLERS, over
from tests.support.checkout_world import World
from tests.support.valkey import wait_until
from tests.support.web import Web, check

PATH = webhooks.PATH
FINE = build_event(id="evt_fine")
Open = Callable[..., Flask]


@pytest.fixture(params=CALLERS)
def open_app(request: pytest.FixtureRequest, make_app: MakeApp) -> Open:
    """Build the application, called one way or the other."""
    return lambda **settings: over(request.param, make_app(**settings))


def send(app: Flask, world: World, event: Any, **how: Any) -> TestResponse:
    """Send a delivery; `how` says what is different about it."""
    body, signature = deliver(event, at=world.clock.now())
    given = {"Stripe-Signature": signature, "Content-Type": "application/json", **how.pop("headers", {})}
    given = {name: value for name, value in given.items() if value is not None}
    environ: dict[str, Any] = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True}
    environ["CONTENT_LENGTH"] = how.pop("content_length", str(len(body)))
    if how.pop("chunked", False):
        environ |= {"CONTENT_LENGTH": "", "HTTP_TRANSFER_ENCODING": "chunked"}
    path, method = how.pop("path", PATH), how.pop("method", "POST")
    answer = app.test_client().open(path, method=method, headers=given, environ_overrides=environ, buffered=True, **how)
    check(answer, method, path)
    return answer


def told(world: World, count: int) -> None:
    """Wait until that many were woken: an answer does not wait for it."""
    wait_until(lambda: len(world.queue.sent) >= count, "a worker is woken")


def test_delivery_is_recorded_once_and_wakes_a_worker(open_app: Open, world: World) -> None:
    """API-32"""
    app = open_app()
    assert send(app, world, FINE).get_json() == {"status": "recorded"}
    assert send(app, world, FINE).get_json() == {"status": "duplicate"}
    told(world, 1)
    assert world.queue.sent == [WorkEvents()]


def test_delivery_with_a_bad_signature_or_body_is_refused(open_app: Open, world: World) -> None:
    """API-3, API-4"""
    app = open_app()
    for event, signature, code in (
        (FINE, deliver(FINE, secret="whsec_other", at=world.clock.now())[1], "invalid_signature"),
        (FINE, None, "invalid_signature"),
        (FINE, "t=1,v1=" + "é" * 10, "invalid_signature"),
        (FINE, "x" * 5000, "invalid_signature"),
        ({"id": "evt_1"}, deliver({"id": "evt_1"}, at=world.clock.now())[1], "invalid_event"),
    ):
        answer = send(app, world, event, headers={"Stripe-Signature": signature})
        assert (answer.status_code, answer.get_json(force=True)["code"]) == (400, code)
    assert world.queue.sent == []


def test_refused_delivery_is_in_the_log_by_the_request_id_of_its_answer(open_app: Open, world: World) -> None:
    """API-2: once by its header, once by its body."""
    app = open_app()
    for event, header in ((FINE, None), ({"id": "evt_1"}, deliver({"id": "evt_1"}, at=world.clock.now())[1])):
        with capture_logs() as lines:
            answer = send(app, world, event, headers={"Stripe-Signature": header})
        [refused] = [line for line in lines if line["event"] == "event.refused"]
        assert (refused["request_id"], refused["code"]) == (
            answer.headers["Request-Id"],
            answer.get_json(force=True)["code"],
        )


def test_delivery_is_in_the_log_by_its_event_and_the_request_id_of_its_answer(open_app: Open, world: World) -> None:
    """API-2"""
    app = open_app()
    with capture_logs() as lines:
        answer = send(app, world, FINE)
        wait_until(lambda: any(line["event"] == "event.recorded" for line in lines), "the line")
    [recorded] = [line for line in lines if line["event"] == "event.recorded"]
    assert (recorded["event_id"], recorded["request_id"]) == ("evt_fine", answer.headers["Request-Id"])


def test_without_a_signing_secret_nothing_is_believed(open_app: Open, world: World) -> None:
    """WHK-2"""
    signature = deliver(FINE, secret="", at=world.clock.now())[1]
    answer = send(open_app(stripe_webhook_secrets=""), world, FINE, headers={"Stripe-Signature": signature})
    assert answer.status_code == 400


# What is sent, by name: the event (or bytes), and what is said otherwise about the request.
REQUESTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "a delivery": (FINE, {}),
    "with an id of the caller's": (FINE, {"headers": {"Request-Id": "their-own-id-7"}}),
    "with an id that will not do": (FINE, {"headers": {"Request-Id": "no good\x7f"}}),
    "with a query": (FINE, {"query_string": "a=b"}),
    "with a credential": (FINE, {"headers": {"Authorization": "Basic c3RyaXBlOndoYXRldmVy"}}),
    "from a page": (FINE, {"headers": {"Origin": "https://app.example"}}),
    "as a form, it says": (FINE, {"headers": {"Content-Type": "application/x-www-form-urlencoded"}}),
    "of a type nobody follows": (build_event("product.created", id="evt_product"), {}),
    "without a signature": (FINE, {"headers": {"Stripe-Signature": None}}),
    "with an empty one": (FINE, {"headers": {"Stripe-Signature": ""}}),
    "with a forged one": (FINE, {"headers": {"Stripe-Signature": "t=1,v1=" + "0" * 64}}),
    "with a huge one": (FINE, {"headers": {"Stripe-Signature": "x" * 5000}}),
    "with one in Latin-1": (FINE, {"headers": {"Stripe-Signature": "t=1,v1=é"}}),
    "no JSON": (b"{", {}),
    "a hundred thousand brackets": (b"[" * 100_000, {}),
    "empty": (b"", {}),
    "too long": (b"x" * (2**20 + 1), {}),
    "too long, in chunks": (b"x" * (2**20 + 1), {"chunked": True}),
    "in chunks": (FINE, {"chunked": True}),
    "a GET": (FINE, {"method": "GET"}),
    "an OPTIONS": (FINE, {"method": "OPTIONS"}),
    "another path": (FINE, {"path": PATH + "/"}),
}


def seen(answer: TestResponse) -> tuple[Any, ...]:
    """All of an answer but the id that each gets anew, and the length that a server adds to what is whole."""
    headers = {name.title(): value for name, value in answer.headers if name.lower() != "content-length"}
    request_id = headers.pop("Request-Id")
    body = answer.get_data(as_text=True).replace(request_id, "ID")
    return answer.status_code, headers, body, request_id.startswith("req_") or request_id


def counted() -> dict[str, float]:
    """The counters of deliveries."""
    return {
        sample.labels["result"]: sample.value
        for metric in REGISTRY.collect()
        if metric.name == "onelane_events_recorded"
        for sample in metric.samples
        if sample.name.endswith("_total")
    }


@pytest.mark.parametrize("name", REQUESTS)
def test_both_callers_give_the_same_answer(make_app: MakeApp, world: World, name: str) -> None:
    """WHK-16: answer, row, count, wake-up and log, of the first delivery and of the second."""
    event, how = REQUESTS[name]
    found = []
    for caller in CALLERS:
        app = over(caller, make_app())
        before = counted()
        with capture_logs() as logs:
            answers = [seen(send(app, world, event, **how)) for _ in range(2)]
            app.extensions[webhooks.EXTENSION].close()
        with world.database.write() as connection:
            columns = [column for column in events.c if column.name != "id"]
            rows = [tuple(row) for row in connection.execute(sa.select(*columns))]
            connection.execute(sa.delete(events))
        woken = [job.kind for job in world.queue.sent]
        world.queue.sent.clear()
        counts = {name: value - before.get(name, 0) for name, value in counted().items()}
        lines = [
            (line["event"], line["log_level"], line.get("status")) for line in logs if line["log_level"] != "debug"
        ]
        found.append((answers, rows, {name: count for name, count in counts.items() if count}, woken, lines))
    assert found[0] == found[1]
    assert all(answer[0] < 500 for answer in found[0][0])


def test_only_what_is_no_delivery_reaches_flask(make_app: MakeApp, world: World) -> None:
    """WHK-16: else the comparison above compares Flask with itself."""
    app = over("asgi", make_app())
    reached: list[int] = []
    app.before_request(lambda: reached.append(1))
    assert send(app, world, FINE).status_code == 200
    assert send(app, world, FINE, headers={"Stripe-Signature": ""}).status_code == 400
    assert reached == []
    assert send(app, world, FINE, method="GET").status_code == 405
    assert reached == [1]


class Failing:
    """A ledger that does not answer, or that breaks."""

    def allow(self, *_: Any) -> None: ...

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.asked = 0

    def autocommit(self) -> Any:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize(
    ("error", "status"), [(LedgerUnavailable("It does not answer."), 503), (ZeroDivisionError(), 500)]
)
def test_failing_ledger_is_asked_once_and_told_in_the_words_of_the_table(
    open_app: Open, world: World, error: Exception, status: int
) -> None:
    """API-7: a 503 lets Stripe send again."""
    ledger = Failing(error)
    answer = send(open_app(services={"database": ledger}), world, FINE, headers={"Request-Id": "their-own-id-7"})
    assert (answer.status_code, ledger.asked) == (status, 1)
    assert answer.headers["Request-Id"] == "their-own-id-7"
    assert answer.mimetype == "application/problem+json"
    assert "Zero" not in answer.get_data(as_text=True)


def test_delivery_without_room_is_refused_as_busy(
    open_app: Open, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LED-14, API-8"""
    monkeypatch.setattr(GroupCommit, "MAX_WAITING", 0)
    answer = send(open_app(), world, FINE)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "try_again")
    assert "Retry-After" in answer.headers


def test_web_that_has_refused_all_deliveries_for_seconds_is_not_ready(
    open_app: Open, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-51: it is again once one was taken, or when none comes any more."""
    now = 1000.0
    app = open_app()
    deliveries = app.extensions[webhooks.EXTENSION]
    deliveries._monotonic = lambda: now

    def refuse_for(seconds: float) -> bool:
        nonlocal now
        with monkeypatch.context() as patch:
            patch.setattr(GroupCommit, "MAX_WAITING", 0)
            assert send(app, world, FINE).status_code == 503
            now += seconds
            assert send(app, world, FINE).status_code == 503
        return Web(app).get("/readyz", user=None).status_code == 503

    assert not refuse_for(webhooks.BUSY_SECONDS - 1)
    assert refuse_for(1)
    assert "deliveries" in Web(app).get("/readyz", user=None).get_json()["checks"]
    assert send(app, world, FINE).status_code == 200
    assert Web(app).get("/readyz", user=None).status_code == 200
    assert refuse_for(webhooks.BUSY_SECONDS)
    now += webhooks.BUSY_SECONDS
    assert Web(app).get("/readyz", user=None).status_code == 200
