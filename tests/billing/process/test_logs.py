"""Log lines: JSON, bounded, redacted, and nobody's text can begin one."""

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from billing.process import logs
from billing.process.logs import (
    HIDDEN,
    LINE_BYTES,
    console_line,
    json_line,
    known_secrets,
    log_handler,
    redact_text,
)
from billing.process.settings import Settings
from tests.support.running_dev import ROOT, environment

# Put together here, so that no scanner takes them for real ones.
SECRETS = {
    "signing secret": "whsec_" + "a1B2c3D4e5F6",
    "secret key": "sk_" + "live_51Abcdefghijk",
    "restricted key": "rk_" + "test_51Abcdefghijk",
    "session address": "https://checkout.stripe.com/c/pay/" + "cs_test_a1b2c3#fidkdWxOYHwnPyd1blpxYHZxWjA0",
    "sandbox's session address": "http://127.0.0.1:12111/pay/" + "cs_test_a1b2c3",
    "portal address": "https://billing.stripe.com/p/session/" + "test_abcdef",
    "email": "bob.o'neil+tag@mail.example.com",
    "card": "4242424242424242",
    "card with spaces": "4242 4242 4242 4242",
    "card with dashes": "5555-5555-5555-4444",
    "bearer": "Bearer abcdef.ghijkl-mnop",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJib2IifQ.c2lnbmF0dXJl",
}


@pytest.fixture
def lines() -> Iterator[tuple[Any, io.StringIO]]:
    """A logger of this test's own and what it wrote."""
    stream = io.StringIO()
    logger = logging.getLogger("test.logs")
    logger.addHandler(log_handler(stream, process="web", secrets=("my-own-secret",), console=False))
    logger.propagate = False
    yield logger, stream
    logger.handlers.clear()


@pytest.mark.parametrize("name", SECRETS)
def test_secret_never_shows_wherever_it_stands(name: str, lines: tuple[Any, io.StringIO]) -> None:
    """OPS-3"""
    logger, stream = lines
    secret = SECRETS[name]
    logger.warning("message with %s inside", secret)
    logger.warning({"event": "nested", "deep": {"list": [{"value": f"x {secret}."}]}, "number": 1})
    try:
        int(f"told too much: {secret}")
    except ValueError:
        logger.exception("failed")
    core = re.sub(r"^(whsec_|.._(live|test)_|Bearer |bob.o')", "", secret)
    assert core not in stream.getvalue()
    assert stream.getvalue().count(HIDDEN) >= 3


def test_own_secrets_are_hidden_whatever_their_form(lines: tuple[Any, io.StringIO]) -> None:
    """OPS-3"""
    logger, stream = lines
    logger.warning("it is my-own-secret")
    assert "my-own-secret" not in stream.getvalue()
    settings = Settings(
        _env_file=None,
        stripe_api_key="the-api-key",
        stripe_webhook_secrets="the-first,the-second",
        auth_api_keys="the-server-key",
        console_password="the-password",
    )
    assert set(known_secrets(settings)) == {"the-api-key", "the-first", "the-second", "the-server-key", "the-password"}


def test_no_secret_setting_is_forgotten() -> None:
    """OPS-3: each that there is, and those that come to be."""
    named = {name: field for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)}
    assert {"console_viewer_password", "sentry_dsn", "stripe_webhook_secrets"} <= set(named)
    values = {name: SecretStr(f"the-{name}") for name in named}
    values |= {name: (values[name],) for name, field in named.items() if "tuple" in str(field.annotation)}
    assert set(known_secrets(Settings.model_construct(**values))) == {f"the-{name}" for name in named}


@pytest.mark.parametrize(
    "text",
    ["evt_1NG8Du2eZvKYlo2CUI79vXWy", "price_kiloclaw_standard", "2026-11-22T10:32:53.123976Z", "1763807494123",
     "chk_01jd3k", "http://127.0.0.1:8000/shop", "redis://127.0.0.1:6379/0", "risk_score", "4242424242424241"],
)  # fmt: skip
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redact_text(text) == text


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=5000) | st.integers() | st.lists(st.text()), max_size=40))
def test_every_event_is_one_bounded_line_of_json(event: dict[str, Any]) -> None:
    """OPS-2, OPS-4"""
    line = json_line({"event": "something.happened", **event})
    assert len(line.encode()) <= LINE_BYTES
    assert line.isascii()
    assert line.isprintable()
    json.loads(line)


@given(st.text())
def test_nothing_in_a_readable_line_begins_another_or_paints(text: str) -> None:
    """OPS-4; faults row 70"""
    line = console_line({"event": text, "field": text, "timestamp": "2026-11-22T10:32:53Z"})
    assert len(line.splitlines()) == 1
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
    line.encode()


def test_event_of_faults_row_70_is_one_escaped_line(lines: tuple[Any, io.StringIO]) -> None:
    """OPS-4: faults row 70."""
    logger, stream = lines
    logger.warning('evt\r\n{"level":"info","event":"forged"}\x1b[31m\u2028')
    (line,) = stream.getvalue().splitlines()
    assert "\x1b" not in line
    assert json.loads(line)["event"].startswith("evt\r\n")


def test_traceback_keeps_its_end_when_it_is_cut() -> None:
    """OPS-2"""
    line = json_line(
        {"event": "job.crashed", "exception": "start " + "x" * 10_000 + " KeyError: 'reason'", "a": "b" * 3000}
    )
    assert json.loads(line)["exception"].endswith("KeyError: 'reason'")
    assert json.loads(line)["event"] == "job.crashed"


def test_context_of_the_task_is_on_every_line(lines: tuple[Any, io.StringIO]) -> None:
    logger, stream = lines
    with structlog.contextvars.bound_contextvars(job="lane.work", row_id=7):
        logger.warning("from a library")
    found = json.loads(stream.getvalue())
    assert (found["job"], found["row_id"], found["process"]) == ("lane.work", 7, "web")


SHARDS = [
    "Bearer ",
    "baSic ",
    "eyJ",
    "abcdef",
    ".",
    "whsec_",
    "sk_live_",
    "rk_",
    "https://",
    "HTTP://",
    "pay.stripe.com/",
]
SHARDS += ["redis://", "@", "mail", "4242", " ", "-", "424242424242", "cs_", "/", "\n", "k_", "x", "\u017f", "\u212a"]


@given(st.lists(st.sampled_from(SHARDS), max_size=12).map("".join))
def test_quick_look_misses_nothing(text: str) -> None:
    """OPS-3: the patterns that are passed over would have changed nothing."""
    thorough = text
    for _, pattern, replacement in logs._PATTERNS:
        thorough = pattern.sub(replacement, thorough)
    thorough = logs._CARD.sub(lambda match: HIDDEN if logs._is_card(match[0]) else match[0], thorough)
    assert redact_text(text) == thorough


@pytest.mark.parametrize("terminal", [True, False])
def test_command_logs_in_words_at_a_terminal(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-234"""
    script = """
import sys, structlog
from billing.process.logs import configure_logging
from tests.app.conftest import build_settings
configure_logging(build_settings(), process="cli", stream=sys.stderr)
structlog.get_logger("billing.test").info("reconcile.ran", found=2)
"""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=environment(PYTHONPATH=str(ROOT)), stderr=theirs, timeout=60
    )
    line = os.read(ours, 1000).decode().strip()
    os.close(ours)
    os.close(theirs)
    assert done.returncode == 0, line
    if terminal:
        assert re.fullmatch(r"\d\d:\d\d:\d\d reconcile\.ran found=2", line)
    else:
        assert json.loads(line)["found"] == 2
