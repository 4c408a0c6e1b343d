"""Which pages of which sites may call and read /v1, and that a form of another site changes nothing."""

import json
from typing import Any

import pytest

from tests.app.conftest import MakeApp
from tests.support.checkout_world import World
from tests.support.web import BODY, ORIGIN, Web, token


def _preflight(web: Web, path: str, origin: str) -> Any:
    asked = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    return web.call("OPTIONS", path, user=None, headers=asked)


def test_page_of_an_allowed_origin_may_call_and_read_our_headers(web: Web) -> None:
    """API-33"""
    before = _preflight(web, "/v1/checkouts", ORIGIN)
    answer = web.checkout(headers={"Origin": ORIGIN})

    assert before.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert before.headers["Access-Control-Allow-Headers"] == "authorization"
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert "Origin" in answer.headers["Vary"]
    assert {"Location", "Retry-After", "Request-Id"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
    assert "Access-Control-Allow-Credentials" not in answer.headers


def test_page_of_an_allowed_origin_may_read_why_it_was_refused(web: Web) -> None:
    """API-33"""
    for path in ("/v1/subscription", "/v1/checkouts/chk_1"):
        answer = web.get(path, user=None, headers={"Origin": ORIGIN})
        assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "https://app.example.evil.com",
        "https://app.example:8443",
        "http://app.example",
        "https://appxexample",
        "https://evilapp.example",
        "https://app.example/",
        "null",
        "*",
        "",
    ],
)
def test_page_of_another_origin_may_not(web: Web, origin: str) -> None:
    """API-33"""
    assert "Access-Control-Allow-Origin" not in _preflight(web, "/v1/checkouts", origin).headers
    assert "Access-Control-Allow-Origin" not in web.checkout(headers={"Origin": origin}).headers


def test_without_allowed_origins_no_page_may(make_app: MakeApp) -> None:
    """API-33"""
    web = Web(make_app(redirect_origins=""))

    assert "Access-Control-Allow-Origin" not in _preflight(web, "/v1/plans", ORIGIN).headers


# What a browser sends for a page of another site without asking first.
FORMS = ("application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain")


@pytest.mark.parametrize("media", FORMS)
def test_page_of_another_site_changes_nothing_with_a_form(served: Web, world: World, media: str) -> None:
    """API-33, API-68; faults row 71: a cookie logs nobody in, and the header that does, no form can send."""
    world.sandbox.pay(served.checkout().get_json()["session_id"])
    cookies = {"Cookie": f"Authorization=Bearer {token()}; token={token()}; session={token()}"}
    sent = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site", **cookies}
    before = world.requests()
    changing = [rule for rule in served.app.url_map.iter_rules() if (rule.methods or set()) & {"POST", "PUT", "DELETE"}]
    for rule in [rule for rule in changing if rule.rule.startswith("/v1/")]:
        path = rule.rule.replace("<path:user_id>", "user_1")
        answer = served.call("POST", path, user=None, headers=sent, data=json.dumps(BODY), content_type=media)
        assert answer.status_code in (401, 405), path
        assert "Access-Control-Allow-Origin" not in _preflight(served, path, "https://evil.example").headers
    assert world.requests() == before


@pytest.mark.parametrize("path", ["/webhooks/stripe", "/healthz", "/metrics"])
def test_cors_ends_at_v1(web: Web, path: str) -> None:
    """API-32, API-33"""
    assert not [name for name, _ in _preflight(web, path, ORIGIN).headers if name.startswith("Access-Control")]
