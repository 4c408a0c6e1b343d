"""Every fenced block of the documents: run, held against what it shows, or counted as one that cannot run here.

The words after the language say how: `test=dev` beside a running `onelane dev`, `test=start` in an empty folder,
`test=env` as settings, `test=pytest` by tests/onelane/test_testing.py, `test=run` and `test=handlers` as Python,
`schema=NAME` against the OpenAPI document, `file=PATH` as a copy. `test=account` needs a Stripe account: only its
commands are parsed.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ruamel.yaml import YAML
from standardwebhooks import Webhook

from app.cli import main
from billing.clock import SYSTEM_CLOCK
from billing.notifications.handlers import HandlerNotifier
from billing.operators.notifications import try_receiver
from billing.process.settings import Settings
from tests.docs.test_deployment import COMPOSE, parse_command
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, Dev, environment, onelane
from tests.support.web import hold

MOST_UNTRIED = 7  # blocks that need a Stripe account
ELSEWHERE = {"docs/frontend.md": "tests/browser/test_frontend.py", "docs/examples/kiloclaw.md": "tests/examples"}


@dataclass(frozen=True)
class Block:
    """A fenced block, and where it stands."""

    page: str
    line: int
    language: str
    how: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks() -> Iterator[Block]:
    """Every block that has a language; one without is a picture or an output."""
    for path in sorted((ROOT / "docs").rglob("*.md")):
        text = path.read_text("utf-8")
        for found in re.finditer(r"^```(\w+)[ ]?(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE):
            line = text[: found.start()].count("\n") + 1
            yield Block(path.relative_to(ROOT).as_posix(), line, found[1], found[2].strip(), found[3])


BLOCKS = [block for block in blocks() if block.page not in ELSEWHERE]
HOWS = (
    "test=account",
    "test=dev",
    "test=env",
    "test=handlers",
    "test=pytest",
    "test=run",
    "test=start",
    "test=compose",
)


def of(how: str) -> list[Block]:
    """The blocks that are marked so."""
    return [block for block in BLOCKS if block.how == how]


def test_every_block_says_how_it_is_tried() -> None:
    """OPS-173"""
    unmarked = [str(one) for one in BLOCKS if one.how not in HOWS and not re.match("(schema|file)=", one.how)]
    assert unmarked == []
    assert Counter(one.how for one in BLOCKS)["test=account"] <= MOST_UNTRIED


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.how.startswith("schema=")], ids=str)
def test_example_is_one_by_the_document(block: Block) -> None:
    """OPS-173"""
    hold(json.loads(block.text), {"$ref": f"#/components/schemas/{block.how.removeprefix('schema=')}"})


@pytest.mark.parametrize("block", [one for one in BLOCKS if one.how.startswith("file=")], ids=str)
def test_copy_is_the_file(block: Block) -> None:
    """OPS-173, API-104"""
    assert block.text == (ROOT / block.how.removeprefix("file=")).read_text("utf-8")


def test_settings_that_are_shown_are_settings() -> None:
    """OPS-173"""
    given = dict(line.split("=", 1) for block in of("test=env") for line in block.text.split())
    assert given
    Settings(**{name.lower(): value for name, value in given.items()}, _env_file=None)
    assert {name.lower() for name in given} <= set(Settings.model_fields)


def test_first_commands_work_in_an_empty_folder(tmp_path: Path) -> None:
    """OPS-173, OPS-171"""
    for block in of("test=start"):
        for line in block.text.splitlines():
            done = onelane(*shlex.split(line)[1:], folder=tmp_path)
            assert done.returncode == 0, done.stderr
    assert {"catalog.toml", ".env"} <= set(os.listdir(tmp_path))


@pytest.mark.parametrize("block", of("test=account"), ids=str)
def test_commands_that_need_an_account_are_commands(block: Block) -> None:
    """OPS-173: their words and options parse."""
    for line in block.text.splitlines():
        words = shlex.split(line)
        assert words[0] in ("onelane", "stripe")
        if words[0] == "onelane":
            parse_command(main.name or "onelane", words[1:])


def test_commands_work_beside_a_running_one(tmp_path: Path) -> None:
    """OPS-173"""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "onelane"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m onelane "$@"\n', "utf-8")
    program.chmod(0o755)
    dev = Dev(tmp_path, own_port())
    try:
        dev.says("onelane is ready")
        state = json.loads((tmp_path / "var" / "dev.json").read_text("utf-8"))
        here = {"127.0.0.1:12111": state["settings"]["STRIPE_API_BASE"].removeprefix("http://")}
        here |= {"127.0.0.1:8000": f"127.0.0.1:{dev.port}"}
        _buy(tmp_path, here)
        for block in of("test=dev"):
            done = _sh(tmp_path, f"set -e\n{block.text}", here)
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"
            assert not re.search(r'"error": ?{', done.stdout), f"{block}: {done.stdout}"
    finally:
        dev.terminate()


def _buy(folder: Path, here: dict[str, str]) -> None:
    """Ann has bought what the README's first command asks for."""
    readme = (ROOT / "README.md").read_text("utf-8")
    asks = next(block for block in re.findall(r"```sh\n(.+?)```", readme, re.DOTALL) if "/v1/checkouts" in block)
    checkout = json.loads(_sh(folder, asks.replace(".venv/bin/", ""), here).stdout)
    pays = f"curl -sS -X POST 127.0.0.1:12111/_sandbox/checkout_sessions/{checkout['session_id']}/pay"
    assert json.loads(_sh(folder, pays, here).stdout)["status"] == "complete"


def _sh(folder: Path, script: str, here: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    for written, address in here.items():
        script = script.replace(written, address)
    settings = environment(PYTHONPATH=str(ROOT), PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    return subprocess.run(["sh", "-c", script], cwd=folder, env=settings, capture_output=True, text=True, timeout=100)


def test_receiver_takes_a_change_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OPS-173: the Python of docs/changes.md."""
    [block] = of("test=run")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "receiver.py").write_text(block.text, "utf-8")
    spec = spec_from_file_location("receiver", tmp_path / "receiver.py")
    assert spec
    assert spec.loader
    receiver = module_from_spec(spec)
    spec.loader.exec_module(receiver)
    [example] = [json.loads(one.text) for one in BLOCKS if one.how == "schema=Change"]

    def send(change: dict[str, Any], number: str, *, secret: str = receiver.SECRET) -> int:
        """In a thread of its own, as servers have it."""
        body, at = json.dumps(change), datetime.now(UTC)
        signed = Webhook(secret).sign(number, at, body)
        stamp = str(int(at.timestamp()))
        headers = {"webhook-id": number, "webhook-timestamp": stamp, "webhook-signature": signed}
        with ThreadPoolExecutor(1) as thread:
            answer = thread.submit(receiver.app.test_client().post, "/changes", data=body, headers=headers).result()
        return int(answer.status_code)

    def members() -> list[Any]:
        with closing(receiver.connect()) as database:
            return [user for (user,) in database.execute("SELECT user_id FROM members")]

    over = json.loads(json.dumps(example))
    over["data"]["access"] = {"granted": False, "reason": "canceled", "until": None}
    assert send(example, "msg_0", secret="whsec_" + "A" * 32) == 400
    notifier = SimpleNamespace(send=lambda message_id, body, at: send(body, message_id))
    assert try_receiver(notifier, clock=SYSTEM_CLOCK)["status"] == 204, "`onelane notifications test` finds it well"
    assert (send(example, "msg_1"), members()) == (204, ["ann"])
    assert (send(over, "msg_2"), members()) == (204, [])
    assert (send(example, "msg_1"), members()) == (204, []), "a repetition changes nothing"


def test_handlers_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPS-173, NTF-6"""
    from billing.notifications import handlers

    [block] = of("test=handlers")
    monkeypatch.setattr(handlers, "_registered", {})
    (tmp_path / "handlers.py").write_text(block.text, "utf-8")
    [example] = [json.loads(one.text) for one in BLOCKS if one.how == "schema=Change"]

    HandlerNotifier(str(tmp_path / "handlers.py")).send("msg_1", example, at=datetime.now(UTC))

    assert capsys.readouterr().out == "subscription.activated ann True\nmsg_1\n"


def test_what_is_added_to_the_compose_file_fits_it() -> None:
    """OPS-173"""
    [block] = of("test=compose")
    added = YAML(typ="safe").load(block.text)
    for name, service in added["services"].items():
        assert set(service["environment"]) <= set(COMPOSE["services"][name]["environment"]), name
        assert COMPOSE["services"][name]["command"][0] == "worker"
