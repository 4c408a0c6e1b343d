"""The keys of an identity provider (JWKS): who waits for them, which are taken, and what a bad set changes."""

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import get_default_algorithms
from structlog.testing import capture_logs

from app.identity.key_set import MOST_BYTES, MOST_WAITING, KeySet, download, read_keys
from tests.app.conftest import MakeApp
from tests.support.provider import EC, KEYS, RSA, Provider, b64, signed, unsigned
from tests.support.web import JWT_SECRET, Web, token

NOW = int(time.time())
WEAK = rsa.generate_private_key(65537, 1024)  # what must be refused


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


def _ask(buyers: Web, bearer: str) -> tuple[int, str]:
    answer = Web(buyers.app).get("/v1/subscription", bearer=bearer)
    return answer.status_code, answer.get_json(force=True).get("code", "")


UNAVAILABLE = (503, "identity_unavailable")


def test_tokens_signed_by_the_providers_keys_pass_and_the_set_is_fetched_once(buyers: Web, provider: Provider) -> None:
    """API-11"""
    for alg, key in KEYS.items():
        provider.add(alg, alg, key)

    for alg, key in KEYS.items():
        assert buyers.get("/v1/subscription", bearer=signed(alg, alg, key)).status_code == 200
    assert provider.asked == 1


def test_public_key_is_no_shared_secret(buyers: Web, provider: Provider, subtests: pytest.Subtests) -> None:
    """API-11; faults row 64"""
    provider.add("rs", "RS256", RSA)
    provider.keys.append({"kty": "oct", "kid": "oct", "alg": "HS256", "k": b64(JWT_SECRET.encode())})
    pem = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    signer = get_default_algorithms()["HS256"]
    head, claims = b64({"alg": "HS256", "kid": "rs"}), b64({"sub": "user_1", "exp": NOW + 60})
    with_public_key = f"{head}.{claims}.{b64(signer.sign(f'{head}.{claims}'.encode(), pem))}"
    forged = {
        "HS256 with the public key": with_public_key,
        "HS256 with a published secret": jwt.encode({"sub": "u", "exp": NOW + 60}, JWT_SECRET, "HS256", {"kid": "oct"}),
        "another alg of the same key": signed("rs", "RS512", RSA),
        "PS256": signed("rs", "PS256", RSA),
        "a key that was not published": signed("rs", "RS256", rsa.generate_private_key(65537, 2048)),
        "a kid that was not published": signed("other", "RS256", RSA),
        "no kid": jwt.encode({"sub": "user_1", "exp": NOW + 60}, RSA, "RS256"),
        "alg none": unsigned("none"),
        "the configured secret's kind": token(),
    }
    assert buyers.get("/v1/subscription", bearer=signed("rs", "RS256", RSA)).status_code == 200
    for name, bearer in forged.items():
        with subtests.test(name):
            assert buyers.get("/v1/subscription", bearer=bearer).status_code == 401


def test_unknown_kids_are_asked_about_once_in_a_while_whoever_names_them(buyers: Web, provider: Provider) -> None:
    """API-15, API-66: the set was fetched a moment ago, so a storm of made-up kids costs the provider nothing."""
    provider.add("rs", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=signed("rs", "RS256", RSA)).status_code == 200

    with ThreadPoolExecutor(8) as strangers:
        made_up = [signed(f"made up {number}", "RS256", RSA) for number in range(24)]
        answers = list(strangers.map(lambda one: Web(buyers.app).get("/v1/subscription", bearer=one), made_up))

    assert {answer.status_code for answer in answers} == {401}
    assert provider.asked == 1


def test_key_that_the_provider_rotated_in_is_fetched_once_and_the_old_one_stays_until_it_is_taken_out(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-66"""
    monkeypatch.setattr("app.identity.key_set.KeySet.COOLDOWN_SECONDS", 0.0)  # of the last fetch; 10 s otherwise
    buyers = Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))
    old, new = signed("old", "RS256", RSA), signed("new", "ES256", EC)
    provider.add("old", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=old).status_code == 200
    provider.add("new", "ES256", EC)

    with ThreadPoolExecutor(MOST_WAITING) as everybody:
        answers = list(everybody.map(lambda one: Web(buyers.app).get("/v1/subscription", bearer=one), [new, old] * 8))

    assert {answer.status_code for answer in answers} == {200}
    assert provider.asked == 2
    del provider.keys[0]
    buyers.get("/v1/subscription", bearer=signed("unheard of", "RS256", RSA))  # has the set fetched again
    assert buyers.get("/v1/subscription", bearer=old).status_code == 401
    assert buyers.get("/v1/subscription", bearer=new).status_code == 200


def test_strangers_kid_keeps_nobody_waiting_whose_key_is_known(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-66: also while the provider takes its time with an answer."""
    monkeypatch.setattr("app.identity.key_set.KeySet.COOLDOWN_SECONDS", 0.0)
    buyers = Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))
    provider.add("rs", "RS256", RSA)
    good = signed("rs", "RS256", RSA)
    assert buyers.get("/v1/subscription", bearer=good).status_code == 200
    provider.heard.clear()
    provider.answers.clear()

    with ThreadPoolExecutor(2) as people:
        unknown = signed("made up", "RS256", RSA)
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

    assert buyers.get("/v1/subscription", bearer=signed("key", alg, KEYS[alg])).status_code == 200
    other = signed("key", "RS512", RSA) if alg == "RS256" else token(kid="key")
    assert buyers.get("/v1/subscription", bearer=other).status_code == 401


def test_provider_that_is_down_means_503_and_is_asked_once_in_a_while(buyers: Web, provider: Provider) -> None:
    """API-8, API-15"""
    provider.status = 500

    for _ in range(5):
        answer = buyers.get("/v1/subscription", bearer=signed("rs", "RS256", RSA))
        assert (answer.status_code, answer.get_json(force=True)["code"]) == (503, "identity_unavailable")
    assert provider.asked == 1


def test_provider_that_is_down_does_not_shut_out_those_whose_key_is_known(buyers: Web, provider: Provider) -> None:
    """API-15"""
    provider.add("rs", "RS256", RSA)
    buyers.get("/v1/subscription", bearer=signed("rs", "RS256", RSA))
    provider.status = 500
    buyers.get("/v1/subscription", bearer=signed("unknown", "RS256", RSA))

    assert buyers.get("/v1/subscription", bearer=signed("rs", "RS256", RSA)).status_code == 200


def _oct(kid: str) -> dict[str, str]:
    return {"kty": "oct", "kid": kid, "alg": "HS256", "k": b64(JWT_SECRET.encode())}


def _jwk(alg: str, key: Any, **more: Any) -> dict[str, Any]:
    return {**get_default_algorithms()[alg].to_jwk(key.public_key(), as_dict=True), "kid": "rs", **more}


UNUSABLE: dict[str, bytes] = {
    "nothing": b"",
    "a page": b"<html>Sign in</html>",
    "no object": b"[]",
    "no keys": b"{}",
    "no list": b'{"keys": {"kid": "rs"}}',
    "an empty list": b'{"keys": []}',
    "brackets": b"[" * 100_000,
    "no text": b"\xff\xfe",
    "words": b'{"keys": ["rs", null, 7]}',
    "a shared secret": json.dumps({"keys": [_oct("rs")]}).encode(),
    "a weak key": json.dumps({"keys": [_jwk("RS256", WEAK)]}).encode(),
    "a key to encrypt with": json.dumps({"keys": [_jwk("RS256", RSA, use="enc")]}).encode(),
    "a key that only signs": json.dumps({"keys": [_jwk("RS256", RSA, key_ops=["sign"])]}).encode(),
    "a key without a name": json.dumps({"keys": [_jwk("RS256", RSA, kid=None)]}).encode(),
    "a curve nobody asked for": json.dumps(
        {"keys": [_jwk("ES256K", ec.generate_private_key(ec.SECP256K1()))]}
    ).encode(),
    "half a million numbers": b'{"keys": [' + b"7," * 500_000 + b"7]}",
    "one byte too many": json.dumps({"keys": [_jwk("RS256", RSA)]}).encode().ljust(MOST_BYTES + 1),
}


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
def test_set_that_cannot_be_used_is_the_providers_fault_and_not_the_buyers(
    buyers: Web, provider: Provider, body: bytes
) -> None:
    """API-90; faults row 122"""
    provider.body = body
    for _ in range(3):
        assert _ask(buyers, signed("rs", "RS256", RSA)) == UNAVAILABLE
    assert provider.asked == 1


@pytest.mark.parametrize("body", UNUSABLE.values(), ids=UNUSABLE)
def test_last_good_set_stays_when_the_next_one_cannot_be_used(
    buyers: Web, provider: Provider, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """API-90; faults row 122"""
    good = signed("rs", "RS256", RSA)
    provider.add("rs", "RS256", RSA)
    assert _ask(buyers, good)[0] == 200
    monkeypatch.setattr(KeySet, "LIFESPAN_SECONDS", 0.0)
    monkeypatch.setattr(KeySet, "COOLDOWN_SECONDS", 0.0)
    provider.body = body
    assert _ask(buyers, signed("new", "RS256", RSA)) == UNAVAILABLE, "it may be the provider's new key"
    assert provider.asked == 2
    assert _ask(buyers, good)[0] == 200


def test_broken_keys_are_one_line_together() -> None:
    """API-91: a set has room for half a million."""
    with capture_logs() as lines, pytest.raises(ValueError, match="no key"):
        read_keys(b'{"keys": [7, 7, {"kty": "EC"}]}')
    assert [line["event"] for line in lines] == ["identity.keys_dropped"]


@pytest.mark.filterwarnings("ignore:The RSA key is 1024")
def test_bad_keys_are_dropped_one_by_one(buyers: Web, provider: Provider) -> None:
    """API-91; faults row 122"""
    broken = [
        {"kty": "RSA", "kid": "a", "n": "!", "e": "AQAB"},
        {"kty": "EC", "kid": "b"},
        _oct("c"),
        7,
    ]
    provider.keys = [*broken, _jwk("RS256", WEAK, kid="weak")]  # type: ignore[list-item]
    provider.add("odd", "RS256", RSA, key_ops=7)
    provider.add("rs", "RS256", RSA)

    assert _ask(buyers, signed("rs", "RS256", RSA))[0] == 200
    for kid in ("a", "b", "c", "weak"):
        assert _ask(buyers, signed(kid, "RS256", WEAK if kid == "weak" else RSA))[0] == 401
    assert provider.asked == 1


def test_at_most_four_requests_wait_for_the_set(buyers: Web, provider: Provider) -> None:
    """API-15; faults row 122: the others are answered at once, and the fetch is one."""
    provider.add("rs", "RS256", RSA)
    provider.answers.clear()
    good = signed("rs", "RS256", RSA)
    with ThreadPoolExecutor(12) as people:
        asked = [people.submit(_ask, buyers, good) for _ in range(12)]
        told = Event()
        try:
            while sum(one.done() for one in asked) < 12 - MOST_WAITING:
                told.wait(0.01)
            assert {one.result() for one in asked if one.done()} == {UNAVAILABLE}
        finally:
            provider.answers.set()
        answers = [one.result(20) for one in asked]
    assert [status for status, _ in answers].count(200) == MOST_WAITING
    assert provider.asked == 1


def test_provider_that_never_ends_its_answer_has_one_deadline(
    make_app: MakeApp, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-15; faults row 122: a byte now and then is not an answer."""
    monkeypatch.setattr(KeySet, "FETCH_SECONDS", 0.3)
    buyers = Web(make_app(auth_jwt_secret=None, auth_jwks_url=provider.url, auth_audience="shop"))
    provider.answers.clear()
    try:
        assert _ask(buyers, signed("rs", "RS256", RSA)) == UNAVAILABLE
    finally:
        provider.answers.set()


def test_token_that_no_key_of_a_set_could_have_signed_costs_no_fetch(buyers: Web, provider: Provider) -> None:
    """API-66"""
    for bearer in (token(), unsigned("none"), "a.b.c", jwt.encode({"sub": "user_1", "exp": NOW + 60}, RSA, "RS256")):
        assert _ask(buyers, bearer)[0] == 401
    assert provider.asked == 0


def test_stale_set_is_fetched_anew_behind_the_request_that_finds_it_stale(
    buyers: Web, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """API-66"""
    provider.add("rs", "RS256", RSA)
    good = signed("rs", "RS256", RSA)
    assert _ask(buyers, good)[0] == 200
    monkeypatch.setattr(KeySet, "LIFESPAN_SECONDS", 0.0)
    monkeypatch.setattr(KeySet, "COOLDOWN_SECONDS", 0.0)
    provider.heard.clear()
    provider.answers.clear()
    try:
        assert _ask(buyers, good)[0] == 200
        assert provider.heard.wait(20)
    finally:
        provider.answers.set()


@pytest.mark.parametrize("target", ["http://keys.example/", "ftp://127.0.0.1/keys"])
def test_redirect_to_where_keys_can_be_replaced_is_not_followed(provider: Provider, target: str) -> None:
    """API-91"""
    provider.status, provider.location = 302, target
    with pytest.raises(ValueError, match="redirect"):
        download(provider.url, 5)
