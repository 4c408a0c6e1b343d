"""The README against what it describes: settings, commands, links, and the curl that a stranger would try."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli import COMMANDS
from billing.process.settings import Settings
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, Dev, environment

README = (ROOT / "README.md").read_text("utf-8")


def test_settings_are_a_handful_of_those_that_exist() -> None:
    """All of them stand in docs/settings.md alone."""
    table = README[README.index("## Settings") : README.index("## Commands")]
    first_cells = re.findall(r"^\|([^|]+)\|", table, re.MULTILINE)
    named = {name for cell in first_cells for name in re.findall(r"`([A-Z_]+)`", cell)}
    assert named < {name.upper() for name in Settings.model_fields}
    needed = {"STRIPE_API_KEY", "STRIPE_WEBHOOK_SECRETS", "AUTH_JWT_SECRET", "REDIRECT_ORIGINS"}
    assert needed < named, "what doctor calls missing"


def test_commands_are_those_that_exist() -> None:
    table = README[README.index("## Commands") : README.index("## Deploying")]
    first_cells = re.findall(r"^\|([^|]+)\|", table, re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`([a-z]+)[ `]", cell)} == set(COMMANDS)


def test_files_to_change_are_there() -> None:
    table = README[README.index("## Where to find what") : README.index("| folder |")]
    named = re.findall(r"`([a-z_]+/[a-z_/]*(?:[a-z_]+\.[a-z]+)?)`", table)
    assert len(named) > 15
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "specs/README.md", "docs/frontend.md"]
)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", (ROOT / page).read_text("utf-8"))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


def test_curl_gives_a_payment_page_and_then_the_same(tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl on this machine")
    script = next(block for block in re.findall(r"```sh\n(.+?)```", README, re.DOTALL) if "/v1/checkouts" in block)
    dev = Dev(tmp_path, own_port())
    try:
        dev.says("onelane is ready")
        here = script.replace("127.0.0.1:8000", f"127.0.0.1:{dev.port}")
        here = here.replace(".venv/bin/onelane", f"{sys.executable} -P -m onelane")
        first, again = (_run(here, tmp_path) for _ in range(2))
    finally:
        dev.terminate()
    shown = json.loads(re.findall(r"```json\n(.+?)```", README, re.DOTALL)[0])
    assert (first["status"], first["reused"]) == (shown["status"], shown["reused"]) == ("open", False)
    assert set(first) == set(shown)
    assert (again["url"], again["reused"]) == (first["url"], True)


def _run(script: str, folder: Path) -> dict[str, object]:
    settings = environment(PYTHONPATH=str(ROOT))
    done = subprocess.run(["sh", "-c", script], cwd=folder, env=settings, capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr
    answer: dict[str, object] = json.loads(done.stdout)
    return answer
