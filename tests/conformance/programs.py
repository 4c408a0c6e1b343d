"""Stripe's programs run against a sandbox behind a recorder; each gives what became of it, as rows of the report."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from sandbox.calls import API_VERSION
from tests.conformance import older, tools
from tests.conformance.recorder import Recorder

HERE = Path(__file__).parent
_KEY = "sk_test_of_conformance"
_SECONDS = 60
# The CLI's triggers that concern subscriptions and Checkout, by the beginning of their names.
CONCERNED = (
    "billing_portal.", "charge.dispute.", "charge.refund", "checkout.session.", "coupon.", "customer.created",
    "customer.deleted", "customer.discount.", "customer.subscription.", "customer.updated", "invoice.", "invoiceitem.",
    "payment_link.", "payment_method.", "price.", "product.", "promotion_code.", "subscription", "tax_rate.",
    "test_helpers.test_clock.",
)  # fmt: skip
# Triggers that are no event type: what they end with.
ENDS_WITH = {
    "subscription.payment_failed": "invoice.payment_failed",
    "subscription.payment_succeeded": "invoice.payment_succeeded",
}


class Outcome(StrEnum):
    PASSED = "passed"
    FAILED = "FAILED"
    NOT_RUN = "not run"


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    outcome: Outcome
    why: str = ""


def triggers(recorder: Recorder, sandbox: str) -> Iterator[Row]:
    """Each trigger of the CLI that concerns us, on an empty sandbox: it ends with its event present."""
    binary = tools.cli(tools.node())
    for name in names_of(_cli(binary, "trigger", "--help").stdout):
        if name.startswith(CONCERNED):
            ask(f"{sandbox}/_sandbox/reset", b"{}")
            options = older.OPTIONS.get(name, ())
            done = _cli(binary, "trigger", name, *options, "--api-key", _KEY, "--api-base", recorder.url)
            if done.returncode == 0:
                older.as_the_buyer(name, sandbox, ask)
            wanted = ENDS_WITH.get(name, name)
            found = ask(f"{sandbox}/v1/events?limit=1&type={wanted}")["data"]
            output = done.stdout + done.stderr
            if name in older.GONE and older.GONE[name] in output:
                yield Row(
                    f"trigger {name}", Outcome.NOT_RUN, f"This version of Stripe's refuses it: {older.GONE[name]}"
                )
            else:
                yield judged(f"trigger {name}", done.returncode, output, wanted if not found else None)


def fixture(recorder: Recorder, sandbox: str) -> Iterator[Row]:
    """A fixture of ours for the CLI: a customer, a checkout session and a subscription with a schedule."""
    binary = tools.cli(tools.node())
    ask(f"{sandbox}/_sandbox/reset", b"{}")
    done = _cli(binary, "fixtures", str(HERE / "fixture.json"), "--api-key", _KEY, "--api-base", recorder.url)
    wanted = "subscription_schedule.created"
    found = ask(f"{sandbox}/v1/events?limit=1&type={wanted}")["data"]
    yield judged("fixture of a subscription", done.returncode, done.stdout + done.stderr, None if found else wanted)


def names_of(help_text: str) -> list[str]:
    """The events that `stripe trigger --help` lists."""
    listed = help_text.partition("Supported events:")[2].partition("\n\n")[0]
    return re.findall(r"^\s+([a-z_.]+)$", listed, re.MULTILINE)


def judged(what: str, code: int, output: str, missing: str | None) -> Row:
    """What a run of the CLI came to. A 501 says what the sandbox does not serve: it could not be run."""
    message = re.search(r'"message": "([^"]*)"', output)
    if "sandbox_unsupported" in output:
        sentence = message.group(1) if message else "the sandbox does not serve it"
        return Row(what, Outcome.NOT_RUN, re.sub(r"/[a-z]+_[A-Za-z0-9]{10,}", "/{id}", sentence))
    if code:
        last = output.strip().splitlines() or [f"exit {code}"]
        return Row(what, Outcome.FAILED, message.group(1) if message else last[-1][:160])
    if missing:
        return Row(what, Outcome.FAILED, f"no event {missing}")
    return Row(what, Outcome.PASSED)


def sdks(recorder: Recorder, sandbox: str) -> Iterator[Row]:
    """The scenario by `stripe` for Node and by each major of `stripe` for Python."""
    arguments = (recorder.url, sandbox, API_VERSION)
    for version in tools.PYTHON:
        what = f"stripe for Python {version}"
        try:
            folder = tools.python_sdk(version)
        except tools.Absent as absent:
            yield Row(what, Outcome.NOT_RUN, str(absent))
            continue
        yield _scenario(what, sandbox, [sys.executable, str(HERE / "scenario.py"), *arguments], PYTHONPATH=str(folder))
    what = f"stripe for Node {tools.NODE}"
    try:
        folder = tools.node()
    except tools.Absent as absent:
        yield Row(what, Outcome.NOT_RUN, str(absent))
        return
    script = shutil.copy(HERE / "scenario.mjs", folder)  # node looks for packages beside the script
    yield _scenario(what, sandbox, ["node", str(script), *arguments])


def _scenario(what: str, sandbox: str, command: list[str], **settings: str) -> Row:
    ask(f"{sandbox}/_sandbox/reset", b"{}")
    environment = {**os.environ, **settings}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, env=environment)
    lines = done.stderr.strip().splitlines() or ["no output"]
    error = next((one for one in lines if "Error" in one), lines[-1])
    return Row(what, Outcome.FAILED, error[:200]) if done.returncode else Row(what, Outcome.PASSED)


def _cli(binary: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tools.FOLDER / "config")}
    environment.pop("STRIPE_API_KEY", None)
    return subprocess.run(
        [str(binary), *arguments], capture_output=True, text=True, timeout=_SECONDS, env=environment,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def ask(url: str, body: bytes | None = None) -> Any:
    headers = {"Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:
        return json.load(response)
