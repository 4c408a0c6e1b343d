"""Bodies that nobody sends in earnest: each ends as a problem, with nothing recorded and the process unharmed."""

import io
import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from billing.models import checkouts, customers, events
from billing.webhooks.signature import sign
from tests.support.builders import build_event, deliver
from tests.support.checkout_world import World
from tests.support.web import API_KEYS, BODY, ORIGIN, Web

JSON = "application/json"

NOT_JSON: list[tuple[str, bytes]] = [
    ("nothing", b""),
    ("a word", b"plan"),
    ("a form", b"plan=standard&quantity=1"),
    ("cut off", b'{"plan": "standard"'),
    ("two values", b"{} {}"),
    ("a trailing comma", b'{"plan": "standard",}'),
    ("single quotes", b"{'plan': 'standard'}"),
    ("not a number", b'{"quantity": NaN}'),
    ("infinity", b'{"quantity": -Infinity}'),
    ("a number of 5,000 digits", b'{"quantity": ' + b"9" * 5000 + b"}"),
    ("60,000 brackets", b"[" * 60_000),
    ("60,000 objects", b'{"a":' * 10_000),
    ("nested 17 deep", b"[" * 18 + b"]" * 18),
    ("latin-1", '{"plan": "stänard"}'.encode("latin-1")),
    ("UTF-16", json.dumps(BODY).encode("utf-16")),
    ("a byte order mark", b"\xef\xbb\xbf{}"),
    ("overlong UTF-8", b'{"plan": "\xc0\x80"}'),
    ("a surrogate in UTF-8", b'{"plan": "\xed\xa0\x80"}'),
]
NO_OBJECT: list[tuple[str, bytes]] = [
    ("null", b"null"),
    ("a list", b"[]"),
    ("a text", b'"standard"'),
    ("a number", b"1e999"),
    ("true", b"true"),
]


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/checkouts"), ("PUT", "/v1/customers/user_1")])
def test_body_that_is_no_json_is_refused(web: Web, subtests: pytest.Subtests, method: str, path: str) -> None:
    """API-3, API-5"""
    for name, data in NOT_JSON:
        with subtests.test(name):
            answer = web.call(method, path, bearer=API_KEYS[0], data=data, content_type=JSON)
            assert (answer.status_code, answer.get_json(force=True)["code"]) == (400, "invalid_json")


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/checkouts"), ("PUT", "/v1/customers/user_1")])
def test_body_that_is_no_object_is_refused(web: Web, subtests: pytest.Subtests, method: str, path: str) -> None:
    """API-3, API-6"""
    for name, data in NO_OBJECT:
        with subtests.test(name):
            answer = web.call(method, path, bearer=API_KEYS[0], data=data, content_type=JSON)
            assert answer.get_json(force=True)["errors"][0]["pointer"] == ""
            assert answer.status_code == 422


@pytest.mark.parametrize(
    "media", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "a/b/c;;"]
)
def test_body_that_does_not_say_json_is_refused(web: Web, media: str) -> None:
    """API-3"""
    answer = web.call("POST", "/v1/checkouts", data=json.dumps(BODY), content_type=media)

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (415, "unsupported_media_type")


def test_field_given_twice_is_refused_wherever_it_is(web: Web) -> None:
    """API-6"""
    data = (
        b'{"plan": "a", "plan": "standard", "metadata": {"x/y": "1", "x/y": "2"}, "success_url": "", "cancel_url": ""}'
    )

    answer = web.call("POST", "/v1/checkouts", data=data, content_type=JSON)

    assert [error["pointer"] for error in answer.get_json(force=True)["errors"]] == ["/plan", "/metadata/x~1y"]


def test_answer_to_a_thousand_wrong_fields_stays_short(web: Web) -> None:
    """API-6"""
    answer = web.checkout(body={f"field_{number}": "\0" for number in range(1000)})

    assert answer.status_code == 422
    assert len(answer.get_json(force=True)["errors"]) == 20


class Endless(io.RawIOBase):
    """A body without an end, which counts how much of it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        assert size >= 0, "an endless body must never be read to its end"
        piece = b" " * min(size, 1000)  # sockets give what they have, not what was asked for
        self.taken += len(piece)
        return piece


@pytest.mark.parametrize(
    ("path", "limit"),
    [("/v1/checkouts", 64 * 1024), ("/webhooks/stripe", 1024 * 1024)],
)
def test_endless_body_is_given_up_at_the_limit(web: Web, world: World, path: str, limit: int) -> None:
    """API-5, API-35; faults row 54"""
    body = Endless()
    headers = {"Stripe-Signature": sign(b"", "whsec_whoever", now=world.clock.now().timestamp())}
    chunked = {"wsgi.input": body, "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}

    answer = web.call("POST", path, environ_overrides=chunked, content_type=JSON, headers=headers)

    assert (answer.status_code, answer.get_json(force=True)["code"]) == (413, "payload_too_large")
    assert limit < body.taken <= limit + 1000


@pytest.mark.parametrize("path", ["/v1/checkouts", "/webhooks/stripe"])
def test_body_that_announces_ten_gigabytes_is_refused_unread(web: Web, path: str) -> None:
    """API-35; faults row 54"""
    body = Endless()
    announced = {"wsgi.input": body, "CONTENT_LENGTH": str(10 * 2**30)}

    answer = web.call("POST", path, environ_overrides=announced, content_type=JSON)

    assert answer.status_code == 413
    assert body.taken == 0


def test_delivery_of_exactly_the_limit_is_read_and_one_byte_more_is_not(web: Web, world: World) -> None:
    """API-35"""
    event = build_event()
    padding = 1024 * 1024 - len(json.dumps(event).encode()) - len(', "pad": ""')

    def send(size: int) -> TestResponse:
        body, signature = deliver({**event, "pad": "x" * size}, at=world.clock.now())
        return web.call("POST", "/webhooks/stripe", user=None, data=body, headers={"Stripe-Signature": signature})

    assert send(padding + 1).status_code == 413
    assert send(padding).get_json() == {"status": "recorded"}


# --- whatever comes: no 5xx, one shape of failure, nothing recorded unless it was a fair request

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from([*BODY, "quantity", "metadata", "client_reference_id", "user_id", "price"])
SURPRISES = st.dictionaries(FIELDS | st.text(max_size=5), VALUES, max_size=4)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=SURPRISES, start=st.sampled_from([BODY, {}]))
def test_whatever_a_body_says_the_answer_is_no_5xx(web: Web, fields: dict[str, object], start: dict[str, str]) -> None:
    """API-2, API-3; faults row 69"""
    data = json.dumps({**start, **fields}, allow_nan=True).encode("utf-8", "surrogatepass")

    assert web.call("POST", "/v1/checkouts", data=data, content_type=JSON).status_code in (202, 400, 422)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=300))
def test_whatever_bytes_come_the_answer_is_no_5xx(web: Web, data: bytes) -> None:
    """API-2, API-3"""
    for method, path in (("POST", "/v1/checkouts"), ("PUT", "/v1/customers/user_1"), ("POST", "/webhooks/stripe")):
        answer = web.call(method, path, bearer=API_KEYS[0], data=data, content_type=JSON)
        assert answer.status_code in (400, 422)


def test_refused_requests_leave_nothing_behind(web: Web, world: World) -> None:
    """API-4"""
    calls: list[Callable[[], TestResponse]] = [
        lambda: web.checkout(user=None),
        lambda: web.checkout(plan="free"),
        lambda: web.checkout(success_url="https://evil.example/"),
        lambda: web.checkout(headers={"Idempotency-Key": "a b"}),
        lambda: web.call("PUT", "/v1/customers/user_1", json={"customer_id": "cus_1"}),
        lambda: web.call("PUT", "/v1/customers/user_1", bearer=API_KEYS[0], json={"customer_id": "sub_1"}),
        lambda: web.call("POST", "/webhooks/stripe", data=b"{}", headers={"Stripe-Signature": "t=1,v1=0"}),
    ]
    for call in calls:
        assert 400 <= call().status_code < 500

    with world.database.read() as connection:
        for table in (checkouts, customers, events):
            assert connection.scalar(select(func.count()).select_from(table)) == 0
    assert world.queue.sent == []
    assert BODY["success_url"].startswith(ORIGIN)  # the bodies above are wrong only where they say so
