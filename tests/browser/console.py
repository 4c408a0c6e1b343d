"""The console in a browser: the login, what axe finds on a page, and pictures for docs/."""

import os
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Page

from tests.support.pictures import in_few_colours
from tests.support.running_dev import ROOT

AXE = (Path(__file__).parent / "axe" / "axe.min.js").read_text("utf-8")
# Evaluated by the debugger: the pages' own policy lets no script in that is not theirs.
FINDINGS = """async () => (await axe.run(document, {resultTypes: ["violations"]})).violations.map(
  (found) => `${found.id}: ${found.nodes.map((node) => node.target.join(" ")).join(", ")}`)"""

OPEN_ALL = """() => document.querySelectorAll("details").forEach((one) => {
  one.removeAttribute("name");
  one.open = true;
})"""


@dataclass
class Console:
    """The console of a running web."""

    home: str
    password: str

    def log_in(self, page: Page) -> None:
        """As ann; the first page is shown then."""
        page.goto(f"{self.home}/console")
        page.get_by_label("Your name").fill("ann")
        page.get_by_label("Password").fill(self.password)
        page.get_by_role("button", name="Log in").click()
        page.wait_for_url(f"{self.home}/console/")


def findings(page: Page, where: str) -> list[str]:
    """What axe finds, and whether the page is wider than its window."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE)
    found = [f"{where}: {finding}" for finding in page.evaluate(FINDINGS)]
    if page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth"):
        found.append(f"{where}: wider than its window")
    return found


def keep(page: Page, name: str) -> None:
    """What is seen becomes docs/NAME.png, where `make screenshots` asks for it."""
    if os.environ.get("SCREENSHOTS"):
        (ROOT / "docs" / f"{name}.png").write_bytes(in_few_colours(page.screenshot()))
