"""Who may call: good tokens and keys pass, every forgery gets the same answer."""

import base64
import hmac
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

from tests.app.conftest import MakeApp
from tests.support.web import API_KEYS, JWT_SECRET, Web, token

NOW = int(time.time())


def _b64(data: bytes | dict[str, Any]) -> str:
    raw = json.dumps(data).encode() if isinstance(data, dict) else data
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _unsigned(alg: str) -> str:
    return f"{_b64({'alg': alg, 'typ': 'JWT'})}.{_b64({'sub': 'user_1', 'exp': NOW + 60})}."


def _with_header(**header: Any) -> str:
    """Signed with a key that the header itself brings or points to."""
    return jwt.encode({"sub": "user_1", "exp": NOW + 60}, "the-attackers-own-key-of-32-bytes!", "HS256", headers=header)


FORGED = {
    "no token": "",
    "a word": "nonsense",
    "three dots": "...",
    "alg none": _unsigned("none"),
    "alg None": _unsigned("None"),
    "alg nOnE": _unsigned("nOnE"),
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

    monkeypatch.setattr("app.auth.jwt.decode", broken)

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
    monkeypatch.setattr("app.auth.hmac.compare_digest", compare)
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


# --- JWKS


class Provider:
    """An identity provider: keys in a set, served over HTTP, with a count of how often it was asked."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.asked = 0
        self.status = 200
        self.heard, self.answers = Event(), Event()
        self.answers.set()
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.heard.set()
                provider.answers.wait(20)
                body = json.dumps({"keys": provider.keys}).encode()
                self.send_response(provider.status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/keys.json"

    def add(self, kid: str, alg: str, key: Any) -> None:
        """Publish a key."""
        jwk = get_default_algorithms()[alg].to_jwk(key.public_key(), as_dict=True)
        self.keys.append({**jwk, "kid": kid, "alg": alg, "use": "sig"})


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def buyers(make_app: MakeApp, provider: Provider) -> Web:
    """An application whose tokens this provider signs."""
    return Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))


RSA = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
KEYS = {"RS256": RSA, "ES256": EC, "EdDSA": ED}


def _signed(kid: str, alg: str, key: Any, **instead: Any) -> str:
    claims = {"sub": "user_1", "aud": "shop", "exp": int(time.time()) + 60, **instead}
    return jwt.encode(claims, key, alg, headers={"kid": kid})


def test_tokens_signed_by_the_providers_keys_pass_and_the_set_is_fetched_once(buyers: Web, provider: Provider) -> None:
    """API-11"""
    for alg, key in KEYS.items():
        provider.add(alg, alg, key)

    for alg, key in KEYS.items():
        assert buyers.get("/v1/subscription", bearer=_signed(alg, alg, key)).status_code == 200
    assert provider.asked == 1


def test_public_key_is_no_shared_secret(buyers: Web, provider: Provider, subtests: pytest.Subtests) -> None:
    """API-11; faults row 64"""
    provider.add("rs", "RS256", RSA)
    provider.keys.append({"kty": "oct", "kid": "oct", "alg": "HS256", "k": _b64(JWT_SECRET.encode())})
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signer = get_default_algorithms()["HS256"]
    head, claims = _b64({"alg": "HS256", "kid": "rs"}), _b64({"sub": "user_1", "exp": NOW + 60})
    with_public_key = f"{head}.{claims}.{_b64(signer.sign(f'{head}.{claims}'.encode(), pem))}"
    forged = {
        "HS256 with the public key": with_public_key,
        "HS256 with a published secret": jwt.encode({"sub": "u", "exp": NOW + 60}, JWT_SECRET, "HS256", {"kid": "oct"}),
        "another alg of the same key": _signed("rs", "RS512", RSA),
        "PS256": _signed("rs", "PS256", RSA),
        "a key that was not published": _signed("rs", "RS256", rsa.generate_private_key(65537, 2048)),
        "a kid that was not published": _signed("other", "RS256", RSA),
        "no kid": jwt.encode({"sub": "user_1", "exp": NOW + 60}, RSA, "RS256"),
        "alg none": _unsigned("none"),
        "the configured secret's kind": token(),
    }
    assert buyers.get("/v1/subscription", bearer=_signed("rs", "RS256", RSA)).status_code == 200
    for name, bearer in forged.items():
        with subtests.test(name):
            assert buyers.get("/v1/subscription", bearer=bearer).status_code == 401


def test_unknown_kids_are_asked_about_once_in_a_while_whoever_names_them(buyers: Web, provider: Provider) -> None:
    """API-15, API-66: the set was fetched a moment ago, so a storm of made-up kids costs the provider nothing."""
    provider.add("rs", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=_signed("rs", "RS256", RSA)).status_code == 200

    with ThreadPoolExecutor(8) as strangers:
        made_up = [_signed(f"made up {number}", "RS256", RSA) for number in range(24)]
        answers = list(strangers.map(lambda one: Web(buyers.app).get("/v1/subscription", bearer=one), made_up))

    assert {answer.status_code for answer in answers} == {401}
    assert provider.asked == 1


def test_key_that_the_provider_rotated_in_is_fetched_once_and_the_old_one_stays_until_it_is_taken_out(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-66"""
    monkeypatch.setattr("app.auth._Keys.COOLDOWN_SECONDS", 0.0)  # of the last fetch; 10 s otherwise
    buyers = Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))
    old, new = _signed("old", "RS256", RSA), _signed("new", "ES256", EC)
    provider.add("old", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=old).status_code == 200
    provider.add("new", "ES256", EC)

    with ThreadPoolExecutor(8) as everybody:
        answers = list(everybody.map(lambda one: Web(buyers.app).get("/v1/subscription", bearer=one), [new, old] * 8))

    assert {answer.status_code for answer in answers} == {200}
    assert provider.asked == 2
    del provider.keys[0]
    buyers.get("/v1/subscription", bearer=_signed("unheard of", "RS256", RSA))  # has the set fetched again
    assert buyers.get("/v1/subscription", bearer=old).status_code == 401
    assert buyers.get("/v1/subscription", bearer=new).status_code == 200


def test_strangers_kid_keeps_nobody_waiting_whose_key_is_known(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-66: also while the provider takes its time with an answer."""
    monkeypatch.setattr("app.auth._Keys.COOLDOWN_SECONDS", 0.0)
    buyers = Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))
    provider.add("rs", "RS256", RSA)
    good = _signed("rs", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=good).status_code == 200
    provider.heard.clear()
    provider.answers.clear()

    with ThreadPoolExecutor(2) as people:
        unknown = _signed("made up", "RS256", RSA)
        stranger = people.submit(lambda: Web(buyers.app).get("/v1/subscription", bearer=unknown).status_code)
        assert provider.heard.wait(20)
        try:
            buyer = people.submit(lambda: Web(buyers.app).get("/v1/subscription", bearer=good).status_code)
            assert buyer.result(1.5) == 200, "before the fetch times out"
            assert not stranger.done()
        finally:
            provider.answers.set()
        assert stranger.result(20) in (401, 503)


@pytest.mark.parametrize("alg", KEYS)
def test_key_without_an_alg_signs_with_the_usual_one_of_its_type(buyers: Web, provider: Provider, alg: str) -> None:
    """API-11"""
    provider.add("key", alg, KEYS[alg])
    del provider.keys[0]["alg"]

    assert buyers.get("/v1/subscription", bearer=_signed("key", alg, KEYS[alg])).status_code == 200
    other = _signed("key", "RS512", RSA) if alg == "RS256" else token(kid="key")
    assert buyers.get("/v1/subscription", bearer=other).status_code == 401


def test_provider_that_is_down_means_503_and_is_asked_once_in_a_while(buyers: Web, provider: Provider) -> None:
    """API-8, API-15"""
    provider.status = 500

    for _ in range(5):
        answer = buyers.get("/v1/subscription", bearer=_signed("rs", "RS256", RSA))
        assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "identity_unavailable")
    assert provider.asked == 1


def test_provider_that_is_down_does_not_shut_out_those_whose_key_is_known(buyers: Web, provider: Provider) -> None:
    """API-15"""
    provider.add("rs", "RS256", RSA)
    buyers.get("/v1/subscription", bearer=_signed("rs", "RS256", RSA))
    provider.status = 500
    buyers.get("/v1/subscription", bearer=_signed("unknown", "RS256", RSA))

    assert buyers.get("/v1/subscription", bearer=_signed("rs", "RS256", RSA)).status_code == 200
