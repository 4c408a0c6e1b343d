"""`onelane doctor`: looks at the settings and at everything outside, and says what to mend."""

import sys
from typing import cast

import click

from app.cli.tables import show_rows
from billing.operators.doctor import Prices, Verdict, examine
from billing.process import CONFIGURATION, UNAVAILABLE
from billing.services import build_services
from billing.settings import load_settings

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
        rows = [{"subject": one.subject, "verdict": one.verdict.value, "sentence": one.sentence} for one in findings]
        show_rows(rows, as_json=True, nothing="")
    verdicts = {finding.verdict for finding in findings}
    if Verdict.WRONG in verdicts:
        sys.exit(CONFIGURATION)
    if Verdict.UNAVAILABLE in verdicts:
        sys.exit(UNAVAILABLE)
