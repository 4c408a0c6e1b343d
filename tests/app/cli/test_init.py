"""`onelane init`: what it writes is a catalog and settings that the other commands take."""

import stat
from pathlib import Path

import pytest
from dotenv import dotenv_values

from billing.catalog import load_catalog
from billing.doctor.finding import Verdict
from billing.doctor.given import examine_settings
from billing.process.setting_docs import MEANINGS, default_of
from billing.process.settings import Settings
from tests.support.running_dev import onelane

# What the account has, and nobody can make up.
OF_STRIPE = {"STRIPE_API_KEY": "sk_test_" + "a" * 30, "STRIPE_WEBHOOK_SECRETS": "whsec_" + "b" * 32}
OWN = {"REDIRECT_ORIGINS": "https://app.example.com"}


def test_what_it_writes_passes_the_local_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-171"""
    for name in MEANINGS:
        monkeypatch.delenv(name, raising=False)
    written = onelane("init", "--product", "shop", folder=tmp_path)

    assert (written.returncode, written.stderr) == (0, "")
    assert load_catalog(tmp_path / "catalog.toml").product == "shop"
    given = {name: value for name, value in dotenv_values(tmp_path / ".env").items() if value}
    settings = Settings(
        **{name.lower(): value for name, value in {**given, **OF_STRIPE, **OWN}.items()}, _env_file=None
    )
    findings = list(examine_settings(settings, [*given, *OF_STRIPE, *OWN]))
    assert [finding.sentence for finding in findings if finding.verdict is not Verdict.OK] == []
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


def test_every_setting_is_there_with_its_meaning(tmp_path: Path) -> None:
    """OPS-171, OPS-172"""
    onelane("init", folder=tmp_path)
    text = (tmp_path / ".env").read_text("utf-8")

    assert set(MEANINGS) == {name.upper() for name in Settings.model_fields}
    for name in MEANINGS:
        assert text.count(f"\n{name}=") + text.count(f"\n#{name}={default_of(name)}\n") == 1, name


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    """OPS-171"""
    (tmp_path / ".env").write_text("PORT=1\n", "utf-8")
    (tmp_path / "catalog.toml").symlink_to(tmp_path / "elsewhere.toml")

    done = onelane("init", folder=tmp_path)

    assert done.returncode == 0
    assert done.stdout.count("is there already") == 2
    assert (tmp_path / ".env").read_text("utf-8") == "PORT=1\n"
    assert not (tmp_path / "elsewhere.toml").exists()


def test_secrets_are_new_each_time(tmp_path: Path) -> None:
    """OPS-171"""
    texts = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        onelane("init", folder=tmp_path / name)
        texts.append(dotenv_values(tmp_path / name / ".env"))
    first, second = texts
    own = {name for name, value in first.items() if value}
    assert own == {"AUTH_JWT_SECRET", "AUTH_API_KEYS", "APP_WEBHOOK_SECRET", "METRICS_TOKEN"}
    assert all(first[name] != second[name] for name in own)
