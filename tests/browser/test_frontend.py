"""The script of docs/frontend.md, taken from that page and run in a browser, on onelane's own origin and on another."""

import re
from typing import Any

import pytest
from playwright.sync_api import Page

from tests.support.running_dev import ROOT, wait_until

SOON = 10_000  # milliseconds; two cores may be busy with other tests
SCRIPT = re.findall(r"```js\n(.+?)```", (ROOT / "docs" / "frontend.md").read_text("utf-8"), re.DOTALL)[0]


@pytest.fixture(params=["onelane's own origin", "another origin"])
def home(request: pytest.FixtureRequest, shop: str, elsewhere: str) -> str:
    """The address of the page that sells."""
    return shop if request.param == "onelane's own origin" else f"{elsewhere}/billing"


def _open(page: Page, shop: str, home: str) -> None:
    """A page with a buyer's token, and the script on it."""
    page.goto(shop)
    token = page.get_attribute("body", "data-token")
    page.goto(home)
    page.evaluate("(token) => { document.body.dataset.token = token; }", token)
    _run(page, shop)


def _run(page: Page, shop: str) -> None:
    script = SCRIPT.replace("http://127.0.0.1:8000", shop.removesuffix("/shop"))
    page.evaluate(f"() => {{ {script}\nObject.assign(window, {{ buy, readAccess }}); }}")


def _buy(page: Page, plan: str) -> None:
    page.evaluate("(plan) => { window.refusal = null; buy(plan).catch((error) => { window.refusal = error; }); }", plan)


def _granted(page: Page) -> Any:
    return page.evaluate("() => readAccess().then(({ access }) => access.granted)")


def test_script_of_the_page_sells_a_plan(page: Page, shop: str, home: str) -> None:
    """API-33, API-64: paid, back, access; and a second one is refused with its code."""
    _open(page, shop, home)
    assert _granted(page) is False
    token = page.get_attribute("body", "data-token")
    _buy(page, "standard")
    page.click("[data-action=pay]", timeout=SOON)
    page.wait_for_url(f"{home}?paid=1", timeout=SOON)

    page.evaluate("(token) => { document.body.dataset.token = token; }", token)
    _run(page, shop)

    wait_until(lambda: _granted(page), lambda: "access", seconds=10)
    _buy(page, "commit")
    page.wait_for_function("() => window.refusal", timeout=SOON)
    assert page.evaluate("() => window.refusal.code") == "already_subscribed"


def test_script_follows_a_checkout_that_takes_its_time(page: Page, shop: str, home: str) -> None:
    """API-20, API-33, API-64: a 202, read at `Location` after `Retry-After`."""
    _open(page, shop, home)
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if "/v1/checkouts" in answer.url else None)
    script = "() => { const send = window.fetch; window.fetch = (to, more) => send(to, more.method !== 'POST' ? more"
    page.evaluate(f"{script} : {{ ...more, headers: {{ ...more.headers, Prefer: 'wait=0' }} }}); }}")

    _buy(page, "standard")

    page.wait_for_selector("[data-action=pay]", timeout=SOON)
    assert 202 in statuses


def test_coming_back_unpaid_shows_no_access(page: Page, shop: str) -> None:
    """API-62, API-64"""
    _open(page, shop, f"{shop}?paid=1")

    assert _granted(page) is False
