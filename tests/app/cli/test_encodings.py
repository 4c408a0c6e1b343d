"""Bytes of other systems: files of settings, and terminals."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import SecretStr

from app.cli import main
from billing.catalog import load_catalog
from billing.errors import ConfigurationError
from billing.process.settings import load_settings
from tests.support.running_dev import ROOT, environment

KEY = "sk_test_from_a_file"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_file_is_read_with_a_mark_and_without(encoding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-138, faults row 110."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_text(f"{KEY}\r\n", encoding)
    (tmp_path / ".env").write_text("PORT=8123\n", encoding)
    monkeypatch.setenv("STRIPE_API_KEY_FILE", "key")
    settings = load_settings()
    assert settings.stripe_api_key is not None
    assert settings.stripe_api_key.get_secret_value() == KEY
    assert settings.port == 8123


@pytest.mark.parametrize("name", ["STRIPE_API_KEY", "AUTH_JWT_SECRET", "DATABASE_URL", "STRIPE_WEBHOOK_SECRETS"])
@pytest.mark.parametrize("data", [b"", b"\n", KEY.encode("utf-16"), KEY.encode("utf-16-le"), b"\xff"])
def test_file_that_is_no_text_is_refused(
    name: str, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-138, OPS-1, faults row 110."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "value").write_bytes(data)
    monkeypatch.setenv(f"{name}_FILE", "value")
    with pytest.raises(ConfigurationError, match=f"{name}_FILE"):
        load_settings()


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"])
def test_end_of_a_line_is_no_part_of_a_value(end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-138, faults row 132: a secret of Kubernetes that was made with `echo` ends in one."""
    monkeypatch.chdir(tmp_path)
    given = {
        "STRIPE_API_KEY": KEY,
        "AUTH_JWT_SECRET": "0123456789abcdef0123456789abcdef",
        "METRICS_TOKEN": "0123456789abcdef0123456789",
        "DATABASE_URL": "postgresql://user@host/name",
        "LOG_LEVEL": "debug",
        "PORT": "8123",
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value + end)
    settings = load_settings()
    for name, value in given.items():
        found = getattr(settings, name.lower())
        assert str(found.get_secret_value() if isinstance(found, SecretStr) else found) == value


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("name", ["STRIPE_WEBHOOK_SECRETS", "AUTH_JWT_SECRET", "STRIPE_API_KEY", "DATABASE_URL"])
def test_quotes_that_docker_keeps_are_refused(
    name: str, quote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-1, faults row 132: `docker run --env-file` takes them for a part of the value, and nothing would fit it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(name, f"{quote}0123456789abcdef0123456789abcdef{quote}")
    with pytest.raises(ConfigurationError, match=f"{name}: has quotes"):
        load_settings()


def test_what_is_no_file_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-1, faults row 132: a pipe would be waited for for ever, and Docker makes a folder of what is missing."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    Path("folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ConfigurationError, match=r"^CATALOG"):
            load_catalog(Path(name))
        monkeypatch.setenv("STRIPE_API_KEY_FILE", name)
        with pytest.raises(ConfigurationError, match="STRIPE_API_KEY_FILE cannot be read"):
            load_settings()


def test_dotenv_in_utf_16_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-138, faults row 110."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("PORT=8123\n", "utf-16")
    with pytest.raises(ConfigurationError, match="UTF-8"):
        load_settings()


@pytest.mark.parametrize("words", [["find", "\udcff"], ["customers", "show", "a\udce9"], ["\udcff"]])
def test_argument_that_is_no_text_is_refused(words: list[str]) -> None:
    """LED-80, OPS-5: bytes of another encoding, as Python shows them."""
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "is not in UTF-8" in done.output


def test_output_does_not_fail_where_a_terminal_lacks_a_letter(tmp_path: Path) -> None:
    """OPS-137, faults row 110."""
    told = subprocess.run(
        [sys.executable, "-c", "from onelane.__main__ import escape_output as e; e(); print('\u017cle')"],
        env=environment(PYTHONPATH=str(ROOT), PYTHONIOENCODING="latin-1"),
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout == b"\\u017cle\n"
