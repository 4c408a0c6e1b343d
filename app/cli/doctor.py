"""`onelane doctor`: checks the settings and every server, and says what to change."""

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial

import click
from dotenv import dotenv_values

from app.cli.tables import show_rows, show_text
from app.cli.web_checks import examine_identity, examine_port
from billing.clock import SYSTEM_CLOCK
from billing.doctor.examine import examine_installation
from billing.doctor.finding import Finding, Verdict, guarded
from billing.process.exits import CONFIGURATION, UNAVAILABLE
from billing.process.settings import Settings, read_settings
from billing.services import build_stripe

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.UNAVAILABLE: "red", Verdict.WRONG: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--read-only", is_flag=True, help="Do not open payment pages to see whether Stripe takes them.")
def doctor(as_json: bool, read_only: bool) -> None:
    """Check settings, servers, catalog and Stripe; sell nothing.

    A payment page of each plan is opened and expired at once, for a customer that is deleted again.
    """
    findings = []
    for finding in _findings(tries=not read_only):
        findings.append(finding)
        if not as_json:
            first = f"{finding.verdict.value:<11}  {finding.subject:<10}  "
            show_text(finding.sentence, first=first, colour=COLOURS[finding.verdict])
    if as_json:
        show_rows([asdict(finding) for finding in findings], as_json=True, nothing="")
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WRONG in verdicts:
        sys.exit(CONFIGURATION)
    if Verdict.UNAVAILABLE in verdicts:
        sys.exit(UNAVAILABLE)


def _findings(*, tries: bool) -> Iterator[Finding]:
    read: list[Settings] = []

    def load() -> Settings:
        read.append(read_settings())
        return read[0]

    names = {*os.environ, *_names_of_file()}
    yield from guarded(
        "settings",
        lambda: examine_installation(
            load, connect=lambda settings: build_stripe(settings, SYSTEM_CLOCK), names=names, tries=tries
        ),
    )
    for settings in read:
        yield from guarded("identity", partial(examine_identity, settings))
        yield from guarded("web", partial(examine_port, settings))


def _names_of_file() -> set[str]:
    try:
        return set(dotenv_values(".env"))
    except UnicodeDecodeError:
        return set()  # which the settings say, too
