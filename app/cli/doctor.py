"""`onelane doctor`: checks the settings and every server, and says what to change."""

import sys
from dataclasses import asdict
from typing import cast

import click

from app.cli.tables import show_rows
from billing.operators.doctor import Prices, Verdict, examine
from billing.process.exits import CONFIGURATION, UNAVAILABLE
from billing.process.settings import load_settings
from billing.services import build_services

COLOURS = {Verdict.OK: "green", Verdict.WARNING: "yellow", Verdict.UNAVAILABLE: "red", Verdict.WRONG: "red"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def doctor(as_json: bool) -> None:
    """Check settings, ledger, broker, catalog and Stripe; change nothing."""
    settings = load_settings()
    stripe = build_services(settings).stripe
    findings = []
    for finding in examine(settings, stripe=cast("Prices | None", stripe)):
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
