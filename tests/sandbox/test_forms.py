"""What arrives as a form: whatever it says, it is served or refused as Stripe refuses, and never ends in a 5xx."""

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sandbox import Sandbox
from sandbox.decoding import decode
from sandbox.errors import ApiError
from sandbox.http import create_app
from sandbox.routes import ROUTES
from tests.sandbox.conftest import CATALOG

fuzz = settings(
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
SHARDS = st.sampled_from(
    ["a", "b", "[", "]", "[]", "[0]", "[²]", "[٣]", "=", "&", ";", "+", "%", "%5B", "%00", "%ff", "é"]
)
KEYS = st.sampled_from(["", "0", "1", "-1", "²", "٣", "9" * 5000, "price", "quantity", "metadata", "gte", "é", "\0"])
WORDS = st.sampled_from(
    [
        *("", "0", "1", "-1", "1e999", "nan", "²", "٣", "9" * 5000, "true", "now", "\0", "é\u2028", "x" * 600),
        *("usd", "month", "subscription", "price_month", "cus_ann", "half_once", "https://example.com/", "all"),
        *("253402300799", "99999999999999", "customer", "data.customer", "a.b.c.d.e.f"),
    ]
)


@pytest.fixture
def client() -> FlaskClient:
    """The API, with a catalog and a buyer who has a session, a subscription and a schedule."""
    sandbox = Sandbox(clock=lambda: 1_780_000_000.0, seed=1)
    sandbox.seed(CATALOG)
    return create_app(sandbox).test_client()


@settings(fuzz, max_examples=300)
@given(text=st.lists(SHARDS, max_size=12).map("".join) | st.text(max_size=40))
def test_any_text_is_parameters_or_a_400(text: str) -> None:
    """SBX-3, SBX-58"""
    try:
        decoded = decode(text)
    except ApiError as refusal:
        status = refusal.status
    else:
        status = 200 if all(isinstance(name, str) for name in decoded) else 500
    assert status in (200, 400)


@st.composite
def calls(draw: Any) -> tuple[str, str, str]:
    """A method, a path and a form: of an address that exists, with its own parameters and others, and any values."""
    method, path, table = draw(st.sampled_from(ROUTES))
    path = path.replace("{id}", draw(st.sampled_from(["cus_ann", "price_month", "cus_nobody", "%00", "é"])))
    names = st.sampled_from([*table, "expand", "nonsense"])
    nested = st.lists(KEYS, max_size=3).map(lambda keys: "".join(f"[{key}]" for key in keys))
    fields = draw(st.lists(st.tuples(names, nested, WORDS), max_size=4))
    return method, path, "&".join(f"{quote(name + inner)}={quote(value)}" for name, inner, value in fields)


@settings(fuzz, max_examples=400)
@given(call=calls())
def test_any_form_is_served_or_refused_as_stripe_refuses(client: FlaskClient, call: tuple[str, str, str]) -> None:
    """SBX-3, SBX-58"""
    method, path, form = call
    sent: dict[str, Any] = {"data": form, "content_type": "application/x-www-form-urlencoded"}
    if method != "POST":
        sent = {"query_string": form}
    answer = client.open(path, method=method, headers={"Authorization": "Bearer sk_test_1"}, **sent)

    assert answer.status_code < 500 or answer.status_code == 501, answer.get_data(as_text=True)
    body = answer.get_json()
    if answer.status_code >= 400:
        assert {"type", "message"} <= set(body["error"]), body
