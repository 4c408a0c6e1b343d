"""Who may call: good tokens and keys pass, every forgery gets the same answer."""

import hmac
import json
import time
from typing import Any

import jwt
import pytest

from tests.app.conftest import MakeApp
from tests.support.provider import unsigned
from tests.support.web import API_KEYS, JWT_SECRET, Web, token

NOW = int(time.time())


def _with_header(**header: Any) -> str:
    """Signed with a key that the header itself brings or points to."""
    return jwt.encode({"sub": "user_1", "exp": NOW + 60}, "the-attackers-own-key-of-32-bytes!", "HS256", headers=header)


FORGED = {
    "no token": "",
    "a word": "nonsense",
    "three dots": "...",
    "alg none": unsigned("none"),
    "alg None": unsigned("None"),
    "alg nOnE": unsigned("nOnE"),
    "no signature": token().rpartition(".")[0] + ".",
    "another secret": token(secret="another-secret-of-more-than-32-bytes"),
    "another alg": jwt.encode({"sub": "user_1", "exp": NOW + 60}, JWT_SECRET, "HS512"),
    "jku": _with_header(jku="http://127.0.0.1:1/keys"),
    "x5u": _with_header(x5u="http://127.0.0.1:1/cert"),
    "jwk": _with_header(jwk={"kty": "oct", "k": "dGhlLWF0dGFja2Vycy1vd24ta2V5LW9mLTMyLWJ5dGVzIQ"}),
    "kid path": _with_header(kid="../../../../dev/null"),
    "kid sql": _with_header(kid="' UNION SELECT 'x"),
    "crit": jwt.encode({"sub": "user_1", "exp": NOW + 60}, JWT_SECRET, "HS256", headers={"crit": ["x"], "x": 1}),
    "ended": token(exp=NOW - 120),
    "not yet": token(nbf=NOW + 600),
    "from the future": token(iat=NOW + 600),
    "no exp": token(exp=None),
    "exp a text": token(exp="tomorrow"),
    "exp infinite": jwt.api_jws.encode(b'{"sub":"user_1","exp":1e999}', JWT_SECRET, "HS256"),
    "no sub": token(sub=None),
    "sub empty": token(sub=""),
    "sub a number": token(sub=7),
    "sub a list": token(sub=["user_1"]),
    "sub too long": token(sub="x" * 201),
    "sub with a newline": token(sub="user\n1"),
    "sub with a NUL": token(sub="user\x001"),
    "sub with a surrogate": token(sub="\ud800"),
    "claims no object": jwt.api_jws.encode(b'["sub"]', JWT_SECRET, "HS256"),
    "claims no JSON": jwt.api_jws.encode(b"\xff", JWT_SECRET, "HS256"),
    "claims nested": jwt.api_jws.encode(b"[" * 5000, JWT_SECRET, "HS256"),
    "huge": token(padding="x" * 9000),
    "a key and more": API_KEYS[0] + "x",
    "part of a key": API_KEYS[0][:-1],
}


def test_every_forgery_gets_the_same_answer(web: Web, subtests: pytest.Subtests) -> None:
    """API-10, API-11, API-12; faults row 64"""
    answers = set()
    for name, bearer in FORGED.items():
        with subtests.test(name):
            answer = web.get("/v1/subscription", bearer=bearer)
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            answers.add(json.dumps(answer.get_json(force=True) | {"request_id": ""}))
    assert len(answers) == 1


def test_token_that_breaks_the_library_is_a_forgery_too(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-3, API-10"""

    def broken(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr("app.identity.callers.jwt.decode", broken)

    assert web.get("/v1/subscription").status_code == 401


HEADERS = ["", "Bearer", "Bearer ", "Basic dXNlcjpwYXNz", token(), f"Token {token()}", "Bearer é", "Bearer a b"]


def test_header_that_is_no_bearer_token_is_refused_on_every_route(web: Web, subtests: pytest.Subtests) -> None:
    """API-10"""
    routes = [
        ("POST", "/v1/checkouts"),
        ("GET", "/v1/checkouts/chk_1"),
        ("GET", "/v1/subscription"),
        ("PUT", "/v1/customers/user_1"),
    ]
    for method, path in routes:
        for header in HEADERS:
            with subtests.test(f"{method} {path} {header[:12]}"):
                answer = web.call(method, path, headers={"Authorization": header}, json={})
                assert answer.status_code == 401


@pytest.mark.parametrize("sub", ["1", "x" * 200, "auth0|5f7c", "http://id.example/7", "ünïcode 名前", "a b"])
def test_good_token_passes(web: Web, sub: str) -> None:
    """API-12"""
    assert web.get("/v1/subscription", bearer=token(sub)).status_code == 200


def test_token_may_have_ended_a_minute_ago_by_our_clock(web: Web) -> None:
    """API-12"""
    assert web.get("/v1/subscription", bearer=token(exp=int(time.time()) - 30)).status_code == 200
    assert web.get("/v1/subscription", bearer=token(exp=int(time.time()) - 90)).status_code == 401


def test_token_may_begin_a_minute_from_now_by_our_clock(web: Web) -> None:
    """API-12"""
    assert web.get("/v1/subscription", bearer=token(nbf=int(time.time()) + 30)).status_code == 200
    assert web.get("/v1/subscription", bearer=token(nbf=int(time.time()) + 120)).status_code == 401


def test_credential_is_compared_with_every_server_key_whatever_it_is(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """API-67: in constant time, and not only until one fits."""
    compared: list[bytes] = []

    def compare(key: bytes, given: bytes) -> bool:
        compared.append(key)
        return compare_digest(key, given)

    compare_digest = hmac.compare_digest
    monkeypatch.setattr("app.identity.callers.hmac.compare_digest", compare)
    for credential in (API_KEYS[0], API_KEYS[1], "server-key", "nonsense"):
        compared.clear()
        web.get("/v1/subscription?user_id=user_1", bearer=credential)
        times = len(compared) // len(API_KEYS)
        assert compared == [key.encode() for key in API_KEYS] * times
        assert times > 0


def test_issuer_and_audience_count_where_they_are_set(make_app: MakeApp) -> None:
    """API-12"""
    web = Web(make_app(auth_issuer="https://id.example", auth_audience="shop"))
    good = {"iss": "https://id.example", "aud": ["other", "shop"]}

    assert web.get("/v1/subscription", bearer=token(**good)).status_code == 200
    for wrong in ({"iss": None}, {"iss": "https://id.example.evil"}, {"aud": None}, {"aud": "shop2"}):
        assert web.get("/v1/subscription", bearer=token(**good | wrong)).status_code == 401


def test_audience_of_a_token_is_ignored_where_none_is_set(web: Web) -> None:
    assert web.get("/v1/subscription", bearer=token(aud="whoever", iss="whoever")).status_code == 200


def test_every_server_key_passes_and_needs_a_user(web: Web) -> None:
    """API-13"""
    for key in API_KEYS:
        assert web.get("/v1/subscription?user_id=user_1", bearer=key).status_code == 200
        assert web.get("/v1/subscription", bearer=key).status_code == 422


def test_without_any_way_to_log_in_nobody_gets_in(make_app: MakeApp) -> None:
    """API-10"""
    web = Web(make_app(auth_jwt_secret=None, auth_api_keys=""))

    assert web.get("/v1/subscription").status_code == 401
    assert web.get("/v1/subscription", bearer=API_KEYS[0]).status_code == 401
    assert web.get("/v1/plans", user=None).status_code == 200
