"""Settings: read from where the contract says, and refused in one line when they make no sense (OPS-1)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from billing.errors import ConfigurationError
from billing.process.settings import Settings, load_settings

LONG = "a" * 32


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without `.env`, and an environment without settings of ours."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "0"),
        ("PORT", "65536"),
        ("PORT", "http"),
        ("STRIPE_API_KEY", "pk_test_published"),
        ("STRIPE_API_BASE", "api.stripe.com"),
        ("STRIPE_API_BASE", "http://host:99999"),
        ("STRIPE_API_BASE", "ftp://host"),
        ("STRIPE_WEBHOOK_SECRETS", ","),
        ("STRIPE_WEBHOOK_SECRETS", "whsec_\u00e9"),
        ("STRIPE_ACCOUNT", "me"),
        ("STRIPE_LIVEMODE", "perhaps"),
        ("STRIPE_TIMEOUT_SECONDS", "0"),
        ("STRIPE_MAX_PER_SECOND", "-1"),
        ("AUTH_JWT_SECRET", "short"),
        ("AUTH_JWKS_URL", "keys.json"),
        ("AUTH_API_KEYS", "\u00e9"),
        ("REDIRECT_ORIGINS", "app.example.com"),
        ("REDIRECT_ORIGINS", "https://*.example.com"),
        ("REDIRECT_ORIGINS", "https://app.example.com/path"),
        ("REDIRECT_ORIGINS", "https://user@app.example.com"),
        ("REDIRECT_ORIGINS", "https://app.example.com:99999"),
        ("CHECKOUT_WAIT_SECONDS", "21"),
        ("CHECKOUT_WAIT_SECONDS", "nan"),
        ("CHECKOUT_REUSE_SECONDS", "86401"),
        ("CUSTOMER_LOCK_SECONDS", "4"),
        ("RATE_LIMIT_CHECKOUTS", "often"),
        ("RATE_LIMIT_READS", "0/minute"),
        ("TRUSTED_PROXIES", "-1"),
        ("WEBHOOK_MAX_BYTES", "1"),
        ("RETENTION_DAYS", "0"),
        ("APP_WEBHOOK_URL", "nowhere"),
        ("APP_WEBHOOK_URL", "https://app.example.com/hook"),  # without its secret
        ("DUPLICATE_POLICY", "ignore"),
    ],
)
def test_nonsense_is_refused_in_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """OPS-1."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert name in refusal.value.sentence
    assert "\n" not in refusal.value.sentence
    assert "should" not in refusal.value.sentence, "what has to be set, not what a library expected"


def test_two_ways_of_checking_tokens_exclude_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-1."""
    monkeypatch.setenv("AUTH_JWT_SECRET", LONG)
    monkeypatch.setenv("AUTH_JWKS_URL", "https://id.example.com/keys")
    with pytest.raises(ConfigurationError, match="AUTH_JWT_SECRET and AUTH_JWKS_URL"):
        load_settings()


def test_refusal_never_shows_the_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither does printing the settings."""
    monkeypatch.setenv("AUTH_JWT_SECRET", "sentinel-too-short")
    with pytest.raises(ConfigurationError) as refusal:
        load_settings()
    assert "sentinel" not in refusal.value.sentence
    monkeypatch.setenv("AUTH_JWT_SECRET", f"sentinel{LONG}")
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRETS", "whsec_sentinel-of-the-tests")
    assert "sentinel" not in repr(load_settings())


def test_lists_are_separated_by_commas_and_origins_written_as_browsers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Default ports and a trailing slash go."""
    monkeypatch.setenv("STRIPE_WEBHOOK_SECRETS", "whsec_the_new_one, whsec_the_old_one,")
    monkeypatch.setenv("REDIRECT_ORIGINS", "https://App.example.com:443/, http://[::1]:8000")
    settings = load_settings()
    secrets = [one.get_secret_value() for one in settings.stripe_webhook_secrets]
    assert secrets == ["whsec_the_new_one", "whsec_the_old_one"]
    assert settings.redirect_origins == ("https://app.example.com", "http://[::1]:8000")


def test_secret_may_come_from_a_file_named_in_the_environment_or_in_dotenv(
    monkeypatch: pytest.MonkeyPatch, empty_folder: Path
) -> None:
    """Without the line break that editors leave."""
    (empty_folder / "key").write_text("sk_test_from_file\n")
    monkeypatch.setenv("STRIPE_API_KEY_FILE", "key")
    (empty_folder / "hook").write_text("whsec_the_first_one,whsec_the_second_one\n")
    (empty_folder / ".env").write_text("STRIPE_WEBHOOK_SECRETS_FILE=hook\nPORT=8123\n")
    settings = load_settings()
    assert settings.stripe_api_key is not None
    assert settings.stripe_api_key.get_secret_value() == "sk_test_from_file"
    assert len(settings.stripe_webhook_secrets) == 2
    assert settings.port == 8123


def test_file_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-1."""
    monkeypatch.setenv("STRIPE_API_KEY_FILE", "nowhere")
    with pytest.raises(ConfigurationError, match="STRIPE_API_KEY_FILE cannot be read"):
        load_settings()


def test_environment_goes_before_dotenv_and_dotenv_before_a_running_dev(
    monkeypatch: pytest.MonkeyPatch, empty_folder: Path
) -> None:
    """What is given is used."""
    (empty_folder / "var").mkdir()
    state = {"pid": os.getpid(), "settings": {"PORT": "8001", "BIND": "127.0.0.3", "REDIS_URL": "redis://dev/0"}}
    (empty_folder / "var/dev.json").write_text(json.dumps(state))
    (empty_folder / ".env").write_text("PORT=8002\nBIND=127.0.0.2\n")
    monkeypatch.setenv("PORT", "8003")
    settings = load_settings()
    assert (settings.port, settings.bind, settings.redis_url) == (8003, "127.0.0.2", "redis://dev/0")


@pytest.mark.skipif(not Path("/proc").exists(), reason="the environment of a process is read from /proc")
def test_secrets_that_a_running_dev_was_given_are_read_from_its_environment(empty_folder: Path) -> None:
    """OPS-96: they are written to no file. A file that one was given in is read again."""
    (empty_folder / "hook").write_text("whsec_given_by_hand\n")
    given = {"STRIPE_API_KEY": "sk_test_given", "STRIPE_WEBHOOK_SECRETS_FILE": "hook", "PORT": "8001"}
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=given) as running:
        state = {"pid": running.pid, "settings": {"PORT": "8004"}}
        (empty_folder / "var").mkdir()
        (empty_folder / "var/dev.json").write_text(json.dumps(state))
        settings = load_settings()
    assert settings.stripe_api_key is not None
    assert settings.stripe_api_key.get_secret_value() == "sk_test_given"
    assert [one.get_secret_value() for one in settings.stripe_webhook_secrets] == ["whsec_given_by_hand"]
    assert settings.port == 8004


def test_state_of_a_dev_that_is_gone_is_not_believed(empty_folder: Path) -> None:
    """Its pid is nobody's, or the file is broken."""
    (empty_folder / "var").mkdir()
    for text in ('{"pid": 4194999, "settings": {"PORT": "8001"}}', "{", "[]", '{"pid": "x"}'):
        (empty_folder / "var/dev.json").write_text(text)
        assert load_settings().port == 8000
