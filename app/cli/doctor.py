"""`onelane doctor`: checks the settings and every server, and says what to change."""

import sys
from dataclasses import asdict

import click

from app.cli.tables import show_rows
from billing.clock import SystemClock
from billing.doctor.examine import examine
from billing.doctor.finding import Verdict
from billing.process.exits import CONFIGURATION, UNAVAILABLE
from billing.process.settings import read_settings
from billing.services import build_stripe

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.UNAVAILABLE: "red", Verdict.WRONG: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--read-only", is_flag=True, help="Do not open payment pages to see whether Stripe takes them.")
def doctor(as_json: bool, read_only: bool) -> None:
    """Check settings, servers, catalog and Stripe; sell nothing.

    A payment page of each plan is opened and expired at once, for a customer that is deleted again.
    """
    settings = read_settings()
    stripe = build_stripe(settings, SystemClock())
    findings = []
    for finding in examine(settings, stripe=stripe, tries=not read_only):
        findings.append(finding)
        if not as_json:
            # click drops the colour where there is no terminal.
            verdict = click.style(f"{finding.verdict.value:<11}", fg=COLOURS[finding.verdict])
            click.echo(f"{verdict}  {finding.subject:<8}  {finding.sentence}")
    if as_json:
        show_rows([asdict(finding) for finding in findings], as_json=True, nothing="")
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WRONG in verdicts:
        sys.exit(CONFIGURATION)
    if Verdict.UNAVAILABLE in verdicts:
        sys.exit(UNAVAILABLE)
