"""docs/examples/billing.html as it stands there, in a browser, on a page of an origin of its own."""

import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

SOON = 10_000  # milliseconds; two cores may be busy with other tests
# A POST that is answered before a worker could: with 202.
AT_ONCE = """const send = window.fetch; window.fetch = (to, more = {}) =>
  send(to, more.method === "POST" ? { ...more, headers: { ...more.headers, Prefer: "wait=0" } } : more);"""
Opened = Callable[..., None]


@pytest.fixture
def opened(page: Page, shop: str, elsewhere: str) -> Opened:
    """Opens the page for a buyer who is logged in."""
    page.goto(shop)
    token = page.get_attribute("body", "data-token") or ""

    def opened(*, on: Page = page, token: str = token) -> None:
        cookies = {"onelane": shop.removesuffix("/shop"), "token": token}
        page.context.add_cookies([{"name": name, "value": value, "url": elsewhere} for name, value in cookies.items()])
        on.goto(f"{elsewhere}/billing.html")

    return opened


def access(page: Page) -> Any:
    return expect(page.locator("#access"))


def buy(page: Page, plan: str = "standard") -> None:
    page.click(f"[data-plan={plan}]")
    page.click("[data-action=pay]", timeout=SOON)
    page.wait_for_url("**/billing.html?paid=1", timeout=SOON)
    access(page).to_have_attribute("data-granted", "true", timeout=SOON)


def test_buyer_buys_cancels_goes_on_changes_and_looks_at_the_portal(page: Page, opened: Opened) -> None:
    """API-104, API-33"""
    opened()
    access(page).to_have_text("No access: no subscription", timeout=SOON)

    buy(page)
    access(page).to_have_text("You have standard")
    page.click("[data-do=cancel]")
    access(page).to_have_text(re.compile("You have standard, until "), timeout=SOON)
    expect(page.locator("[data-do=cancel]")).to_be_hidden()
    page.click("[data-do=reactivate]")
    access(page).to_have_text("You have standard", timeout=SOON)
    page.click("text=Change to commit")
    access(page).to_have_text(re.compile("You have standard, and commit from "), timeout=SOON)
    page.click("[data-do=keep]")
    access(page).to_have_text("You have standard", timeout=SOON)

    page.click("[data-do=portal]")

    page.wait_for_url(re.compile(r"/p/session|/portal|bps_"), timeout=SOON)


def test_buyer_with_a_subscription_is_refused_a_second_one(page: Page, opened: Opened) -> None:
    """API-104: a page that was left open, and asks for what is bought meanwhile."""
    opened()
    other = page.context.new_page()
    opened(on=other)
    buy(other)

    page.click("text=Buy commit")

    expect(page.locator("#notice")).to_have_attribute("data-code", "already_subscribed", timeout=SOON)
    expect(page.locator("#notice")).to_contain_text("You already have a subscription")


def test_answer_that_takes_its_time_is_followed(page: Page, opened: Opened) -> None:
    """API-104, API-20, API-40: a 202 for the checkout, and one for the change."""
    statuses: list[int] = []
    page.on("response", lambda answer: statuses.append(answer.status) if answer.request.method == "POST" else None)
    page.add_init_script(AT_ONCE)
    opened()

    buy(page)
    page.click("[data-do=cancel]")

    access(page).to_have_text(re.compile("until "), timeout=SOON)
    assert statuses.count(202) == 2


def test_who_is_logged_out_is_told_so(page: Page, opened: Opened) -> None:
    """API-104, API-10"""
    opened(token="not-a-token")

    access(page).to_have_text("Please log in again.", timeout=SOON)
    expect(page.locator("#notice")).to_have_attribute("data-code", "unauthorized")


def test_lost_connection_is_told_and_passes(page: Page, opened: Opened) -> None:
    """API-104"""
    opened()
    page.route("**/v1/checkouts", lambda route: route.abort())
    page.click("[data-plan=standard]")
    expect(page.locator("#notice")).to_have_text("That did not get through. Please try again.", timeout=SOON)
    page.unroute("**/v1/checkouts")

    buy(page)
