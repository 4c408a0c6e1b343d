"""Settings that let strangers in: refused at the start of every process, and all of them named by `onelane doctor`."""

from pathlib import Path
from typing import Any

import pytest

from app.cli.processes import _check
from billing.doctor.finding import Verdict
from billing.doctor.given import examine_settings
from billing.errors import ConfigurationError
from billing.process.settings import Settings, load_settings, read_settings

LIVE = "rk_" + "live_x"
KEYS = "https://id.example.com/keys"
UNSAFE: dict[str, tuple[str, dict[str, str]]] = {
    "a server key of 23 characters": ("AUTH_API_KEYS", {"AUTH_API_KEYS": "k3y-0f-23-characters-xx"}),
    "one short server key among others": ("AUTH_API_KEYS", {"AUTH_API_KEYS": "a-key-of-24-characters-x,short"}),
    "a webhook secret of 15": ("STRIPE_WEBHOOK_SECRETS", {"STRIPE_WEBHOOK_SECRETS": "whsec_123456789"}),
    "one short webhook secret": ("STRIPE_WEBHOOK_SECRETS", {"STRIPE_WEBHOOK_SECRETS": "whsec_1234567890,x"}),
    "one character again and again": ("AUTH_JWT_SECRET", {"AUTH_JWT_SECRET": "a" * 32}),
    "two characters in turn": ("AUTH_JWT_SECRET", {"AUTH_JWT_SECRET": "ab" * 32}),
    "a key set over http": ("AUTH_JWKS_URL", {"AUTH_JWKS_URL": "http://id.example.com/k", "AUTH_AUDIENCE": "shop"}),
    "a host that only looks like ours": (
        "AUTH_JWKS_URL",
        {"AUTH_JWKS_URL": "http://127.0.0.1.example.com/k", "AUTH_AUDIENCE": "shop"},
    ),
    "a key set for anybody's tokens": ("AUTH_AUDIENCE", {"AUTH_JWKS_URL": KEYS}),
    "a live key over http": ("STRIPE_API_BASE", {"STRIPE_API_KEY": LIVE, "STRIPE_API_BASE": "http://127.0.0.1:1"}),
    "live mode over http": ("STRIPE_API_BASE", {"STRIPE_LIVEMODE": "true", "STRIPE_API_BASE": "http://stripe.example"}),
    "the shop beside a live key": ("ONELANE_SHOP", {"STRIPE_API_KEY": LIVE, "ONELANE_SHOP": "1"}),
    "a console's password of 15": ("CONSOLE_PASSWORD", {"CONSOLE_PASSWORD": "fifteen-letters"}),
    "a viewer's password of 15": (
        "CONSOLE_VIEWER_PASSWORD",
        {"CONSOLE_PASSWORD": "sixteen-letters-", "CONSOLE_VIEWER_PASSWORD": "fifteen-letters"},
    ),
    "one password for both": (
        "CONSOLE_VIEWER_PASSWORD",
        {"CONSOLE_PASSWORD": "sixteen-letters-", "CONSOLE_VIEWER_PASSWORD": "sixteen-letters-"},
    ),
    "a header that anybody may send": ("TRUSTED_PROXIES", {"CONSOLE_USER_HEADER": "X-Forwarded-User"}),
    "the shop in live mode": ("ONELANE_SHOP", {"STRIPE_LIVEMODE": "true", "ONELANE_SHOP": "1"}),
}
SAFE: dict[str, dict[str, str]] = {
    "24 and 16 characters": {
        "AUTH_API_KEYS": "a-key-of-24-characters-x",
        "STRIPE_WEBHOOK_SECRETS": "whsec_1234567890",
        "STRIPE_API_BASE": "https://stripe.example",  # Stripe's own are longer
    },
    "two passwords of the console, and a proxy's header": {
        "CONSOLE_PASSWORD": "sixteen-letters-",
        "CONSOLE_VIEWER_PASSWORD": "sixteen-letters.",
        "CONSOLE_USER_HEADER": "X-Forwarded-User",
        "TRUSTED_PROXIES": "1",
    },
    "a random secret": {"AUTH_JWT_SECRET": "0f1e2d3c4b5a69788796a5b4c3d2e1f0"},
    "a key set of this machine": {"AUTH_JWKS_URL": "http://[::1]:1/keys", "AUTH_ISSUER": "https://id.example.com"},
    "a key set with an audience": {"AUTH_JWKS_URL": KEYS, "AUTH_AUDIENCE": "shop"},
    "a test key over http, and the shop": {
        "STRIPE_API_KEY": "sk_" + "test_x",
        "STRIPE_API_BASE": "http://sandbox:12111",
        "ONELANE_SHOP": "1",
    },
    "a live key over https": {"STRIPE_API_KEY": LIVE, "STRIPE_API_BASE": "https://stripe.example.com"},
}


@pytest.fixture(autouse=True)
def nothing_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without `.env`, and an environment without settings of ours."""
    for name in (*Settings.model_fields, "onelane_shop"):
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)


def _set(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(("name", "given"), UNSAFE.values(), ids=UNSAFE)
def test_setting_that_opens_the_door_stops_the_start_and_is_named_by_doctor(
    monkeypatch: pytest.MonkeyPatch, name: str, given: dict[str, str]
) -> None:
    """OPS-110; faults row 121"""
    _set(monkeypatch, given)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert name in refusal.value.sentence
    assert "\n" not in refusal.value.sentence
    assert not any(
        value in refusal.value.sentence
        for key, value in given.items()
        if key.endswith(("SECRET", "SECRETS", "KEY", "KEYS", "PASSWORD"))
    )
    assert refusal.value.sentence in _wrong(read_settings())
    with pytest.raises(SystemExit) as ended:  # the web, which drops the key
        _check()
    assert ended.value.code == 78


@pytest.mark.parametrize("given", SAFE.values(), ids=SAFE)
def test_setting_that_lets_nobody_in_is_taken(monkeypatch: pytest.MonkeyPatch, given: dict[str, str]) -> None:
    """OPS-110"""
    _set(monkeypatch, given)
    assert not [sentence for sentence in _wrong(load_settings()) if "is not set" not in sentence]


def test_doctor_names_all_of_them_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-110"""
    _set(monkeypatch, {"AUTH_JWKS_URL": "http://id.example.com/keys", "AUTH_API_KEYS": "x"})
    found = " ".join(_wrong(read_settings()))
    assert all(name in found for name in ("AUTH_API_KEYS has", "AUTH_JWKS_URL is http", "Set AUTH_AUDIENCE"))


def test_doctor_warns_of_an_issuer_without_an_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-110"""
    _set(monkeypatch, {"AUTH_JWKS_URL": KEYS, "AUTH_ISSUER": "https://id.example.com"})
    warned = [finding.sentence for finding in _found(load_settings()) if finding.verdict is Verdict.WARNING]
    assert len(warned) == 1
    assert "AUTH_AUDIENCE" in warned[0]


def _found(settings: Settings) -> list[Any]:
    return list(examine_settings(settings))


def _wrong(settings: Settings) -> list[str]:
    return [finding.sentence for finding in _found(settings) if finding.verdict is Verdict.WRONG]
