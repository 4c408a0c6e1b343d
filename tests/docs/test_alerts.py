"""Metrics, alerts, runbooks and the dashboard: everything that they name exists, and one table names all of it."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import click
import pytest
from ruamel.yaml import YAML

from app.cli import main
from app.health.routes import LedgerGauges
from billing.clock import SYSTEM_CLOCK
from billing.database import Database
from billing.services import Services

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "onelane.rules.yml"
ALERTS = {rule["alert"]: rule for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]}
RUNBOOKS = {path.stem: path for path in (ROOT / "docs" / "runbooks").glob("Onelane*.md")}
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "onelane.json").read_text("utf-8"))
# | `name` | kind | `label`, `label` | says |
TABLE = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in re.findall(
        r"^\| `(onelane_\w+)` \| (\w+) \|([^|]*)\|", (ROOT / "docs" / "metrics.md").read_text("utf-8"), re.MULTILINE
    )
}
# What alerts of others read, with the labels.
PROMISED = {
    "onelane_events_recorded_total": {"result"},
    "onelane_events_pending": set(),
    "onelane_oldest_pending_seconds": set(),
    "onelane_events_dead": set(),
    "onelane_checkouts_total": {"outcome"},
    "onelane_checkout_seconds": set(),
    "onelane_stripe_requests_total": {"route", "status"},
    "onelane_incidents_open": set(),
    "onelane_workers": {"queue"},
    "onelane_beat_age_seconds": set(),
    "onelane_checkouts_waiting": set(),
    "onelane_oldest_waiting_seconds": set(),
    "onelane_notifications_undelivered": set(),
    "onelane_signatures_refused_total": set(),
}
KINDS = ("Counter", "Histogram")
# What Prometheus' own client adds to the name of a histogram.
SUFFIX = r"_(bucket|sum|count)$"


def test_prometheus_takes_the_rules() -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian's package prometheus has it)")
    done = subprocess.run([promtool, "check", "rules", RULES], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_each_alert_has_a_page_and_each_page_an_alert() -> None:
    """OPS-151"""
    assert set(ALERTS) == set(RUNBOOKS)
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text("utf-8")
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook"] == f"docs/runbooks/{name}.md"
        assert f"| [{name}]({name}.md) | {rule['labels']['severity']} | {rule['annotations']['summary']} |" in index


@pytest.mark.parametrize("name", RUNBOOKS)
def test_page_says_what_to_look_at_what_to_do_and_when_it_is_over(name: str) -> None:
    text = RUNBOOKS[name].read_text("utf-8")
    assert [heading for heading in ("**Look**", "**Do**", "**It is over when**") if heading not in text] == []


def test_every_metric_that_is_named_is_one_of_ours() -> None:
    """OPS-151: an alert on a misspelt metric never fires."""
    told = [rule["expr"] for rule in ALERTS.values()]
    shown = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    pages = [path.read_text("utf-8") for path in RUNBOOKS.values()]
    for name in {name for text in told + shown + pages for name in re.findall(r"\bonelane_\w+", text)}:
        assert re.sub(SUFFIX, "", name) in TABLE, name


def test_table_has_every_metric_with_its_kind_and_labels(database: Database) -> None:
    """OPS-192"""
    services = cast("Services", SimpleNamespace(database=database, clock=SYSTEM_CLOCK))
    now = {gauge.name: (gauge.type, set(gauge.samples[0].labels)) for gauge in LedgerGauges(services).collect()}
    assert dict(_counted()) | now == TABLE


def test_names_that_others_rely_on_stay() -> None:
    """OPS-193: the table is held against the code above."""
    assert {name: labels for name, (_, labels) in TABLE.items() if name in PROMISED} == PROMISED


def _counted() -> Iterator[tuple[str, tuple[str, set[str]]]]:
    """The counters and histograms that the code makes."""
    for path in (path for part in ("app", "billing", "worker") for path in (ROOT / part).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS and node.args:
                name, _, *labels = map(ast.literal_eval, node.args)
                yield name, (node.func.id.lower(), set(*labels))


@pytest.mark.parametrize("name", RUNBOOKS)
def test_every_command_of_a_page_exists(name: str) -> None:
    """OPS-151"""
    for line in re.findall(r"`onelane ([^`]+)`", RUNBOOKS[name].read_text("utf-8")):
        command: click.Command = main
        words = line.split()
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, line
            command = found
        known = {name for parameter in command.params for name in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, line
