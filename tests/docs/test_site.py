"""docs/ as a site: every page has its place, every link leads somewhere, and nothing is loaded from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.running_dev import ROOT

# A link out of docs/ is no link of the site (docs/hooks.py); it must lead somewhere all the same.
OUTSIDE = re.compile(r"\]\(((?:\.\./)+[^)#]+)")


def test_site_is_built_without_a_warning(tmp_path: Path) -> None:
    """OPS-177"""
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=110)

    assert done.returncode == 0, done.stdout + done.stderr
    pages = list(tmp_path.rglob("*.html"))
    assert {"what.html", "start.html", "changes.html", "manage.html", "settings.html"} <= {page.name for page in pages}
    loaded = [
        (page.name, address)
        for page in pages
        for address in re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8"))
    ]
    assert loaded == []


def test_links_out_of_the_folder_lead_somewhere() -> None:
    """OPS-177"""
    for page in (ROOT / "docs").rglob("*.md"):
        for link in OUTSIDE.findall(page.read_text("utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
