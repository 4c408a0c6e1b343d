"""The console, as an operator uses it: log in, look, search, press; and axe on every page."""

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.console import OPEN_ALL, Console, findings, keep
from tests.support.running_dev import Dev, wait_until

SOON = 10_000  # milliseconds; two cores may be busy with other tests


@pytest.fixture(scope="session")
def console(dev: Dev) -> Console:
    secrets = json.loads((dev.folder / "var" / "dev-secrets.json").read_text("utf-8"))
    return Console(f"http://127.0.0.1:{dev.port}", secrets["CONSOLE_PASSWORD"])


@pytest.fixture(scope="session")
def buyer(browser: Browser, shop: str) -> str:
    """A user who bought."""
    page = browser.new_page()
    page.goto(shop)
    user = page.locator(".who code").inner_text()
    page.locator("[data-plan=standard]").click()
    page.click("[data-action=pay]", timeout=SOON)
    expect(page.locator("[data-access]")).to_have_attribute("data-access", "granted", timeout=SOON)
    page.close()
    return user


def test_operator_logs_in_searches_looks_and_presses(page: Page, console: Console, buyer: str) -> None:
    """CON-2, CON-9, CON-11, CON-13: with the keyboard."""
    console.log_in(page)
    expect(page.locator("main")).to_contain_text("All is well", timeout=SOON)
    keep(page, "console")
    page.keyboard.press("/")
    page.keyboard.type(buyer)
    page.keyboard.press("Enter")

    page.wait_for_url(f"{console.home}/console/customer?user={buyer}")
    expect(page.locator("main")).to_contain_text("Has access")
    keep(page, "console-customer")
    page.get_by_text("Compare with Stripe now").first.click()
    expect(page.locator("details[open] code")).to_have_text(re.compile(f"onelane customers sync {buyer}"))
    page.get_by_label("Why").first.fill("they say that they have no access")
    with page.expect_response(lambda answer: "hx-request" in answer.request.headers, timeout=SOON):
        page.keyboard.press("Enter")  # and the page looks again by itself

    expect(page.get_by_role("status")).to_contain_text("to be fetched from Stripe")
    expect(page.get_by_role("status")).to_contain_text("they say that they have no access")
    expect(page.locator(".timeline")).to_contain_text("customers sync by ann from 127.0.0.1")
    expect(page.locator("#access")).to_contain_text("As fetched from Stripe")


def test_first_page_renews_itself(page: Page, console: Console) -> None:
    """CON-10: by a script of ours, which the page's policy lets run."""
    console.log_in(page)
    with page.expect_response(lambda answer: "hx-request" in answer.request.headers, timeout=15_000) as renewed:
        pass
    assert renewed.value.status == 200


def test_first_page_draws_its_charts(page: Page, console: Console) -> None:
    """OPS-160, CON-10: by scripts of ours alone; the day's on request."""
    console.log_in(page)
    expect(page.locator(".charts canvas")).to_have_count(6, timeout=SOON)
    page.get_by_role("link", name="The last day").click()
    expect(page.get_by_role("heading", name="The last day")).to_be_visible()
    expect(page.locator(".charts canvas")).to_have_count(6, timeout=SOON)


def test_operator_replays_events_and_sees_what_becomes_of_them(page: Page, console: Console, buyer: str) -> None:
    """OPS-166, CON-9, CON-14: a worker does it, and the page follows; another one looks at the setup."""
    assert buyer
    console.log_in(page)
    page.goto(f"{console.home}/console/events?type=invoice.*&status=done")
    page.get_by_text("Replay what this filter chooses").click()
    page.locator("summary").first.click()
    page.get_by_label("Why").first.fill("to see it done again")
    page.locator("details[open] button[type=submit]").click()
    expect(page.get_by_role("status")).to_contain_text("begun (replay")
    expect(page.locator(".live")).to_contain_text("finished", timeout=30_000)
    expect(page.locator(".live .tile").first).to_contain_text(re.compile(r"Done\s*[1-9]"), timeout=30_000)
    page.goto(f"{console.home}/console/setup")
    page.locator("summary").first.click()
    page.locator("details[open] button[type=submit]").click()
    expect(page.get_by_role("status").first).to_contain_text("asked for")

    def is_answered() -> bool:
        page.reload()
        return page.get_by_role("heading", name="The catalog beside").count() > 0

    wait_until(is_answered, lambda: page.locator("main").inner_text())


def test_logging_out_leads_to_the_login(page: Page, console: Console) -> None:
    """CON-6"""
    console.log_in(page)
    page.get_by_role("button", name="Log out").click()
    page.wait_for_url(re.compile("/console/login"))
    page.go_back()
    page.reload()
    expect(page.get_by_label("Password")).to_be_visible()


@pytest.fixture(params=["light", "dark"])
def scheme(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=[390, 1280])
def narrow_or_wide(browser: Browser, scheme: Any, request: pytest.FixtureRequest) -> Iterator[Page]:
    """A page of this scheme and width."""
    context = browser.new_context(viewport={"width": request.param, "height": 900}, color_scheme=scheme)
    yield context.new_page()
    context.close()


def test_axe_finds_nothing_on_any_page(narrow_or_wide: Page, console: Console, buyer: str) -> None:
    """CON-12"""
    page = narrow_or_wide
    page.goto(f"{console.home}/console")
    found = findings(page, "login")
    console.log_in(page)
    waiting = [f"{console.home}{path}" for path in ("/console/", "/console/find?q=nobody", "/console/nowhere")]
    seen: set[str] = set()
    while waiting:  # every page that a link leads to, once
        address = waiting.pop(0)
        page_name = urlsplit(address).path
        if page_name in seen or not address.startswith(f"{console.home}/console/"):
            continue
        seen.add(page_name)
        page.goto(address)
        page.evaluate(OPEN_ALL)
        found += findings(page, page_name)
        waiting += page.locator("a").evaluate_all("links => links.map((link) => link.href)")
        if page_name == "/console/":
            waiting.append(f"{console.home}/console/customer?user={buyer}")
    details = (
        "customer",
        "checkouts",
        "event",
        "events/replay",
        "notification",
        "charts",
        "setup",
        "audit",
        "incidents",
        "runs",
    )
    assert {"/console/", "/console/find", *(f"/console/{name}" for name in details)} < seen
    assert found == []
