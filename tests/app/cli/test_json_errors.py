"""With --json stdout is JSON in every case: an answer or an error, and the exit code says which."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from click.testing import CliRunner, Result

from app.cli import main
from billing.process.settings import Settings
from tests.app.cli.test_lists import commands, options_of
from tests.support.ports import own_port
from tests.support.running_dev import ROOT

# What each command has to be told, beside --json.
GIVEN = {
    "checkouts show": ["chk_1"],
    "checkouts expire": ["chk_1", "--reason", "x"],
    "customers show": ["ann"],
    "customers sync": ["ann"],
    "customers import": ["users.csv", "--dry-run"],
    "customers erase": ["ann", "--dry-run"],
    "dead redrive": ["--all", "--dry-run"],
    "events replay": ["evt_1", "--reason", "x"],
    "events show": ["evt_1"],
    "events stop": ["1", "--reason", "x"],
    "find": ["ann"],
    "incidents show": ["1"],
    "incidents resolve": ["1", "--reason", "x"],
    "notifications recover": ["--since", "7d", "--dry-run"],
    "notifications resend": ["--status", "dead", "--dry-run"],
    "notifications show": ["msg_1"],
    "webhooks setup": ["--url", "https://app.example/webhooks/stripe"],
}
ON_REQUEST = {words for words, command in commands() if "--json" in options_of(command)}
# doctor says what is wrong as its findings, and not as an error.
SPEAKING = sorted(ON_REQUEST - {"doctor"})
NEEDS_STRIPE = {"webhooks setup", "customers erase", "reconcile", "notifications test"}  # which say so first


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a catalog and no ledger yet, without the settings of whoever runs the tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{own_port()}/0")
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    (tmp_path / "users.csv").write_text("user_id,customer_id\nann,cus_1\n", "utf-8")
    yield tmp_path
    structlog.reset_defaults()


def asked(words: str, *more: str) -> tuple[Result, Any]:
    """Run a command as a program does; what it reads."""
    done = CliRunner().invoke(main, [*words.split(), *GIVEN.get(words, []), "--json", *more])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done, json.loads(done.stdout)


@pytest.mark.parametrize("words", SPEAKING)
def test_wrong_setting_is_an_error_in_json(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-231"""
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    done, answer = asked(words)
    assert (done.exit_code, answer["error"]["code"]) == (78, "configuration")
    assert answer["error"]["sentence"] in done.stderr


@pytest.mark.parametrize("words", sorted(set(SPEAKING) - NEEDS_STRIPE))
def test_ledger_that_does_not_answer_is_an_error_in_json(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-231"""
    monkeypatch.setenv("DATABASE_URL", f"postgresql://somebody@127.0.0.1:{own_port()}/nowhere")
    done, answer = asked(words)
    assert (done.exit_code, answer["error"]["code"]) == (69, "ledger_unavailable")


@pytest.mark.parametrize("words", [*SPEAKING, "doctor"])
def test_wrong_command_line_is_an_error_in_json(words: str) -> None:
    """OPS-231"""
    done, answer = asked(words, "--nonsense")
    assert (done.exit_code, answer["error"]["code"]) == (2, "usage")


@pytest.mark.usefixtures("folder")
def test_what_is_not_there_is_an_error_in_json() -> None:
    """OPS-231"""
    for words in ("checkouts show", "customers show", "events show", "find", "incidents show", "events stop"):
        done, answer = asked(words)
        assert (done.exit_code, answer["error"]["code"]) == (1, "not_found"), words
    done = CliRunner().invoke(main, ["customers", "show", "nobody"])
    assert (done.exit_code, done.stdout, done.stderr) == (1, "", "onelane: There is no such user.\n")


@pytest.mark.usefixtures("folder")
def test_receiver_that_no_setting_names_is_a_setting_to_mend() -> None:
    """OPS-231"""
    done, answer = asked("notifications test")
    assert (done.exit_code, answer["error"]["code"]) == (78, "configuration")
    assert "APP_WEBHOOK_URL" in done.stderr


def test_doctor_says_what_is_wrong_as_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-231"""
    monkeypatch.setenv("DATABASE_URL", "nonsense")
    done, answer = asked("doctor")
    assert done.exit_code == 78
    assert "wrong" in {finding["verdict"] for finding in answer}


def test_migration_by_command_is_in_the_audit_log() -> None:
    """OPS-142, OPS-190"""
    _, made = asked("db upgrade", "--reason", "a new release")
    assert (made["before"], made["fits"]) == (None, "ok")
    assert asked("db upgrade")[1]["before"] == made["version"]
    _, rows = asked("audit list")
    assert [(row["command"], row["reason"]) for row in rows] == [("db upgrade", "a new release")]
