"""Canaries: what nobody may read goes through everything once, and is looked for wherever it must not be (row 73).

Secrets of the running processes, a buyer's token and email, a number like a card's, the address of the payment page.
Looked for in what every process wrote, in every command that Valkey was ever sent (its append-only file: messages,
results, locks, counters), in the metrics and in every answer that is not the buyer's own.
"""

import json
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import pytest
import redis

from tests.bench.storm import onelane_shop, order
from tests.support.running_dev import Dev, wait_until

SHOP = "https://app.example.com"
EMAIL = "canary.buyer@mail.example.com"
CARD = "4242424242424242"
SERVER_KEY = "canary-server-key-0123456789"
APP_SECRET = "whsec_" + "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"


@pytest.mark.timeout(120)
def test_nothing_secret_shows_anywhere(tmp_path: Path) -> None:
    """API-9, OPS-3; faults row 73: a purchase, its events, notifications that fail, and each kind of refusal."""
    settings = {
        "REDIRECT_ORIGINS": SHOP,
        "AUTH_API_KEYS": SERVER_KEY,
        "APP_WEBHOOK_URL": "http://127.0.0.1:1/changes",  # nobody is there: what is sent to it fails and is logged
        "APP_WEBHOOK_SECRET": APP_SECRET,
    }
    with onelane_shop(tmp_path, **settings) as (dev, stripe):
        secrets = json.loads((tmp_path / "var" / "dev-secrets.json").read_text("utf-8"))
        claims = {"sub": "ann", "email": EMAIL, "exp": time.time() + 600}
        token = jwt.encode(claims, secrets["AUTH_JWT_SECRET"], "HS256")
        body = {**order(SHOP), "metadata": {"referral": CARD}, "client_reference_id": CARD}
        bought = _ask(dev, "POST", "/v1/checkouts", body, token, Prefer="wait=20")
        assert bought[0] == 201, bought
        url = json.loads(bought[1])["url"]
        session = json.loads(bought[1])["session_id"]
        stripe.control("POST", f"/_sandbox/checkout_sessions/{session}/pay", {})
        wait_until(lambda: b'"active"' in _ask(dev, "GET", "/v1/subscription", None, token)[1], lambda: dev.output)
        refused = [
            _ask(dev, "POST", "/v1/checkouts", body, token, Prefer="wait=20"),
            _ask(dev, "POST", "/v1/checkouts", {"plan": CARD, "success_url": url, EMAIL: 1, **secrets}, token),
            _ask(dev, "POST", "/v1/checkouts", body, token + "x"),
            _ask(dev, "POST", "/v1/checkouts", body, SERVER_KEY + "x"),
            _ask(dev, "GET", f"/v1/checkouts/{EMAIL}?token={token}", None, token),
            _ask(dev, "GET", f"/{CARD}/{EMAIL}", None, token),
            _ask(dev, "PUT", f"/v1/customers/{EMAIL}", {"customer_id": SERVER_KEY}, SERVER_KEY),
            _ask(
                dev, "POST", "/webhooks/stripe", {"id": EMAIL, "card": CARD}, token, **{"Stripe-Signature": "t=1,v1=0"}
            ),
        ]
        assert {status for status, _ in refused} == {400, 401, 404, 409, 422}
        dev.says("notification", seconds=30)
        printed = f"password {secrets['CONSOLE_PASSWORD']}"
        assert dev.output.count(printed) == 1, "to the terminal, for who started it"
        places = {
            "the logs": dev.output.replace(printed, "").encode(),
            "the metrics": _ask(dev, "GET", "/metrics", None, token)[1],
            "Valkey": _sent_to_valkey(dev),
            "what a stranger is answered": b"".join(text for _, text in refused[2:]),
        }

    canaries = {"email": EMAIL, "card": CARD, "server key": SERVER_KEY, "app secret": APP_SECRET, "token": token}
    canaries |= {"payment page": url, **secrets}
    assert b"checkout.answered" in places["the logs"]
    assert b"onelane:" in places["Valkey"], "the messages were looked at"
    found = [(name, where) for where, text in places.items() for name, one in canaries.items() if one.encode() in text]
    assert found == []


def _ask(dev: Dev, method: str, path: str, body: Any, credential: str, **headers: str) -> tuple[int, bytes]:
    sent = {"Content-Type": "application/json", "Authorization": f"Bearer {credential}", **headers}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{dev.port}{path}", data, sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()


def _sent_to_valkey(dev: Dev) -> bytes:
    state = json.loads((dev.folder / "var" / "dev.json").read_text("utf-8"))
    with redis.Redis.from_url(state["settings"]["REDIS_URL"]) as client:
        client.set("onelane:canary", "last")  # something to wait for
        client.execute_command("WAITAOF", 1, 0, 5000)
    files = [path for path in (dev.folder / "var").rglob("*.aof") if path.is_file()]
    assert files
    return b"".join(path.read_bytes() for path in files)
