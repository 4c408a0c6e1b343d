"""What holds for every request: ids, headers, failures, what a browser may do, and what the log never says."""

import logging
import re
from typing import Any

import pytest
from sqlalchemy.exc import IntegrityError
from structlog.testing import capture_logs

from billing.database import Database
from billing.models import customers
from tests.app.conftest import MakeApp
from tests.support.builders import NOON, build_event, deliver
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, BODY, Web, check_problem, token

PATHS = ["/healthz", "/v1/plans", "/v1/subscription", "/nowhere", "/openapi.json", "/docs", "/static/base.css"]


def test_every_answer_names_its_request(web: Web) -> None:
    """API-1"""
    ids = [web.get(path).headers["Request-Id"] for path in PATHS]

    assert len(set(ids)) == len(PATHS)


@pytest.mark.parametrize("given", ["abcdefgh", "0f8fad5b-d9cb-469f-a165-70867728950e", "x" * 64])
def test_plain_id_of_the_caller_is_taken_over(web: Web, given: str) -> None:
    """API-1"""
    assert web.get("/healthz", headers={"Request-Id": given}).headers["Request-Id"] == given


@pytest.mark.parametrize(
    "given", ["short", "x" * 65, "has space", "-dashfirst", "a=b;c=d;e", "<script>alert", "é" * 10, '{"a":"b"}']
)
def test_odd_id_of_the_caller_is_replaced(web: Web, given: str) -> None:
    """API-1"""
    assert web.get("/healthz", headers={"Request-Id": given}).headers["Request-Id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v2/plans", 404, "not_found"),
        ("GET", "/", 404, "not_found"),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", 404, "not_found"),
        ("GET", "/static/../auth.py", 404, "not_found"),
        ("GET", "/static/%2e%2e/auth.py", 404, "not_found"),
        ("DELETE", "/v1/plans", 405, "method_not_allowed"),
        ("GET", "/v1/checkouts", 405, "method_not_allowed"),
        ("POST", "/v1/subscription", 405, "method_not_allowed"),
        ("TRACE", "/v1/plans", 405, "method_not_allowed"),
        ("BREW", "/v1/plans", 405, "method_not_allowed"),
    ],
)
def test_wrong_address_or_method_is_a_problem_too(web: Web, method: str, path: str, status: int, code: str) -> None:
    """API-2"""
    answer = web.client.open(path, method=method)

    check_problem(answer)
    assert (answer.status_code, answer.get_json(force=True)["code"]) == (status, code)
    assert (status == 405) == ("Allow" in answer.headers)


class Broken:
    """A clock that fails with a sentence full of secrets."""

    def now(self) -> Any:
        raise RuntimeError("postgresql://admin:hunter2@db/ledger for user_1@example.com")


def test_bug_is_answered_with_a_500_that_says_nothing(make_app: MakeApp) -> None:
    """API-7"""
    web = Web(make_app(services={"clock": Broken()}))

    with capture_logs() as lines:
        answer = web.get("/v1/subscription")

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (500, "internal")
    assert "hunter2" not in answer.get_data(as_text=True)
    (logged,) = [line for line in lines if line["event"] == "request.failed"]
    assert isinstance(logged["exc_info"], RuntimeError)


@pytest.fixture
def dead_ledger() -> Database:
    """A ledger that nobody serves."""
    return Database("postgresql://nobody@127.0.0.1:1/nothing")


def test_ledger_that_is_down_is_a_503_on_every_route_that_needs_it(
    make_app: MakeApp, dead_ledger: Database, world: World
) -> None:
    """API-8"""
    web = Web(make_app(services={"database": dead_ledger}))
    body, signature = deliver(build_event(), at=world.clock.now())

    answers = [
        web.checkout(),
        web.get("/v1/checkouts/chk_1"),
        web.get("/v1/subscription"),
        web.call("PUT", "/v1/customers/user_1", bearer=API_KEYS[0], json={"customer_id": "cus_1"}),
        web.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature}),
    ]

    for answer in answers:
        assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "ledger_unavailable")


def test_read_changes_nothing(served: Web, world: World) -> None:
    """API-68; faults row 71: so a link or a picture of another site changes nothing, whoever follows it."""
    world.sandbox.pay(served.checkout().get_json()["session_id"])
    operation = served.call("POST", "/v1/subscription/cancel").get_json()["id"]
    ids = {"checkout_id": "chk_0", "operation_id": operation}

    before = world.everything()
    for rule in served.app.url_map.iter_rules():
        if "GET" in (rule.methods or set()) and rule.rule.startswith("/v1/"):
            path = re.sub(r"<(\w+)>", lambda found: ids[found[1]], rule.rule)
            assert served.get(path).status_code in (200, 404), path
    assert world.everything() == before


@pytest.mark.parametrize("path", ["/docs", "/shop"])
def test_page_allows_only_our_own_files(make_app: MakeApp, path: str) -> None:
    """API-34"""
    answer = Web(make_app(shop=True)).get(path)

    policy = dict(part.strip().split(" ", 1) for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    text = answer.get_data(as_text=True)
    assert "<style" not in text
    assert " style=" not in text
    assert "<script>" not in text
    assert "https://" not in text.replace("https://app.example.com", "")  # an example in the documentation
    assert answer.headers["Referrer-Policy"] == "no-referrer"


def test_believed_proxies_are_counted_from_our_side(make_app: MakeApp) -> None:
    """Faults row 68."""
    forwarded = {"X-Forwarded-For": "6.6.6.6, 1.1.1.1, 2.2.2.2", "X-Forwarded-Proto": "https"}
    for proxies, seen in ((0, "127.0.0.1"), (1, "2.2.2.2"), (2, "1.1.1.1")):
        app = make_app(trusted_proxies=proxies)
        addresses: list[str | None] = []
        app.before_request(lambda found=addresses: found.append(_remote()))
        Web(app).get("/healthz", headers=forwarded)
        assert addresses == [seen]


def _remote() -> str | None:
    from flask import request

    return request.remote_addr


# --- the log


def test_log_says_nothing_that_anyone_could_use(served: Web, world: World, caplog: pytest.LogCaptureFixture) -> None:
    """API-9"""
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.WARNING, logger="stripe")  # the worker's, and quiet there too
    buyer = token("user_canary", email="canary@example.com")
    event = build_event(subject={"id": "pi_1", "object": "payment_intent", "note": "4242424242424242"})
    body, signature = deliver(event, at=world.clock.now())

    with capture_logs() as lines:
        answer = served.checkout(
            bearer=buyer, metadata={"referral": "4242424242424242"}, headers={"Idempotency-Key": "canary-key"}
        )
        served.get(f"/v1/checkouts/{answer.get_json()['id']}?user_id=query-canary", bearer=buyer)
        served.checkout(bearer=buyer, plan="canary-plan")
        served.get("/v1/subscription", bearer="canary-token")
        served.get("/v1/subscription?user_id=canary-query", bearer=API_KEYS[0])
        served.call("PUT", "/v1/customers/canary-path", bearer=API_KEYS[0], json={"customer_id": "cus_1"})
        served.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature})
        served.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": "t=1,v1=canary"})

    said = repr(lines) + caplog.text
    assert len(lines) > 8
    for secret in (
        "canary",
        "4242424242424242",
        buyer,
        *API_KEYS,
        answer.get_json()["url"],
        signature,
        BODY["success_url"],
    ):
        assert secret not in said


def test_error_of_the_database_names_no_values(ledger: Database) -> None:
    """API-9"""
    row = {"user_id": "canary@example.com", "idempotency_key": "k", "parameters": {}, "created_at": NOON}

    twice = customers.insert().values([row, row])

    with ledger.write() as connection, pytest.raises(IntegrityError) as caught:
        connection.execute(twice)

    assert "canary" not in str(caught.value)


def test_line_about_a_request_names_its_route_and_answer(web: Web) -> None:
    with capture_logs() as lines:
        web.get("/v1/checkouts/chk_1")

    (line,) = [line for line in lines if line["event"] == "request.answered"]
    assert (line["method"], line["route"], line["status"]) == ("GET", "/v1/checkouts/<checkout_id>", 404)


@pytest.mark.parametrize(
    ("proxies", "prefix", "location"),
    [
        (1, "/pay", "/pay/v1/checkouts/"),
        (1, "/pay/v2/", "/pay/v2/v1/checkouts/"),
        (1, "/evil, /pay", "/pay/v1/checkouts/"),
        (1, "//evil.example", "/v1/checkouts/"),
        (1, "https://evil.example", "/v1/checkouts/"),
        (1, "/a\\b", "/v1/checkouts/"),
        (0, "/pay", "/v1/checkouts/"),
    ],
)
def test_prefix_of_a_believed_proxy_is_part_of_our_addresses(
    make_app: MakeApp, proxies: int, prefix: str, location: str
) -> None:
    """API-100, faults row 105."""
    web = Web(make_app(trusted_proxies=proxies))
    headers = {"X-Forwarded-Prefix": prefix}
    assert web.checkout(headers=headers).headers["Location"].startswith(location)
    docs = web.client.get("/docs", headers=headers).get_data(as_text=True)
    prefix = location.removesuffix("/v1/checkouts/")
    assert f'href="{prefix}/openapi.json"' in docs
    assert web.client.get("/openapi.json", headers=headers).get_json()["servers"] == [
        {"url": f"http://localhost{prefix}"}
    ]
