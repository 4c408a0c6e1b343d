"""Eight troubles of an operator: from the console's first page to the cause and what mends it, in three steps (CON-15).

A step is a link that is followed, a search, or a button that is pressed with its reason: each by what can be read.
`make screenshots` keeps what is seen for docs/troubles.md.
"""

import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from billing.models import outbox
from tests.browser.console import Console, findings, keep
from tests.support import troubles_world as world
from tests.support.builders import SECRET
from tests.support.ports import own_port
from tests.support.running_dev import wait_until
from tests.support.troubles_world import SAID, Place, place_in

WAIT = 60_000  # milliseconds, for what a worker does
MOST_STEPS = 3
PASSWORD = "a-password-of-the-operators"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """With a web that has a console."""
    with place_in(tmp_path, PORT=str(own_port()), CONSOLE_PASSWORD=PASSWORD) as place:
        place.start("onelane web")
        wait_until(lambda: _answers(f"{_home(place)}/healthz"), place.log, 60)
        yield place


def _home(place: Place) -> str:
    return f"http://127.0.0.1:{place.settings['PORT']}"


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


@dataclass
class Operator:
    """Somebody who logs in and sees the trouble of this name at once, on a page that axe has nothing against."""

    name: str
    place: Place
    page: Page
    steps: int = 0

    def __post_init__(self) -> None:
        Console(_home(self.place), PASSWORD).log_in(self.page)
        worst = self.page.get_by_label("What is worst")
        expect(worst).to_contain_text(SAID[self.name], use_inner_text=True)
        self.looks(keeps=False)

    def reads(self, *texts: str) -> None:
        """All of this can be read on the page, at once or as soon as a worker is done."""
        for text in texts:
            expect(self.page.locator("main")).to_contain_text(text, use_inner_text=True, timeout=WAIT)

    def follows(self, link: str) -> None:
        """One step: a link."""
        self._step()
        self.page.locator("main").get_by_role("link", name=link).click()

    def searches(self, text: str) -> None:
        """One step: the search of every page."""
        self._step()
        self.page.keyboard.press("/")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")

    def opens(self, button: str, command: str, *, why: str) -> None:
        """One step, to which `presses` is the end: a button, below it the command that does the same."""
        self._step()
        self.page.locator("summary", has_text=button).click()
        form = self.page.locator("details[open]")
        expect(form.locator("code")).to_have_text(re.compile(re.escape(command)))
        form.get_by_label("Why").fill(why)

    def presses(self) -> None:
        """The button of the form that is open."""
        self.page.locator("details[open] button[type=submit]").click()
        expect(self.page.get_by_role("status")).to_contain_text("ann from 127.0.0.1")

    def looks(self, *, keeps: bool = True) -> None:
        """Nothing is wrong with the page, wide and narrow, by day and by night. Its picture is kept where asked for."""
        found = []
        for scheme in ("dark", "light"):
            self.page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            for width in (390, 1280):
                self.page.set_viewport_size({"width": width, "height": 900})
                found += findings(self.page, f"{self.name}, {scheme}, {width}")
        assert found == []
        if keeps:
            keep(self.page, f"images/troubles/{self.name}")

    def is_rid_of_it(self) -> None:
        """The first page does not say so any more."""

        def is_gone() -> bool:
            self.page.goto(f"{_home(self.place)}/console/")
            return SAID[self.name] not in " ".join(self.page.locator("main").inner_text().split())

        wait_until(is_gone, self.page.locator("main").inner_text, 60)

    def _step(self) -> None:
        self.steps += 1
        assert self.steps <= MOST_STEPS


def test_missing_worker_is_named_with_the_command_that_starts_it(place: Place, page: Page) -> None:
    """CON-15"""
    checkout_id = world.no_worker(place)
    operator = Operator("no_worker", place, page)
    command = "onelane worker --queues checkout"
    operator.reads("The last one was seen 12 min ago", f"What mends it {command}")
    operator.looks()
    place.wake()
    place.start(command)
    operator.is_rid_of_it()
    wait_until(lambda: place.has_a_page(checkout_id), place.log)


def test_missing_beat_is_named_with_the_command_that_starts_it(place: Place, page: Page) -> None:
    """CON-15"""
    world.no_beat(place)
    operator = Operator("no_beat", place, page)
    operator.reads("The last one was seen 30 min ago", "What mends it onelane beat")
    operator.looks()
    place.start("onelane beat")
    operator.is_rid_of_it()


def test_rolled_secret_leads_to_the_setting_that_takes_the_new_one(place: Place, page: Page) -> None:
    """CON-15"""
    world.secret_rolled(place)
    operator = Operator("secret_rolled", place, page)
    operator.reads("On the command line onelane doctor --read-only")
    operator.follows("Show what has to be set")
    operator.reads("Put the signing secret that Stripe shows", "STRIPE_WEBHOOK_SECRETS, and restart the webs")
    operator.looks()
    world.receive_signed_anew(place, [SECRET, world.NEW_SECRET])
    operator.is_rid_of_it()


def test_dead_event_is_replayed_by_a_button(place: Place, page: Page) -> None:
    """CON-15"""
    world.dead_event(place)
    operator = Operator("dead_event", place, page)
    operator.reads("On the command line onelane dead list")
    operator.follows("Show the events that were given up")
    operator.reads("Stripe refused GET /v1/subscriptions", "Received unknown parameter")
    operator.opens(
        "Replay 4 events", "onelane events replay --status dead --yes", why="the new release asks without it"
    )
    operator.looks()
    place.worker()
    operator.presses()
    operator.reads("Done 4", "Given up again 0")
    operator.is_rid_of_it()


def test_limit_of_stripes_leads_to_who_waits(place: Place, page: Page) -> None:
    """CON-15"""
    checkout_id = world.stripe_at_429(place)
    operator = Operator("stripe_at_429", place, page)
    operator.reads("What was refused is tried again by itself, buyers first", "lower STRIPE_MAX_PER_SECOND")
    operator.looks()
    operator.follows("Show who waits")
    operator.reads("user_1", "stripe unavailable", "onelane locks list")
    operator.looks(keeps=False)
    place.shop.sandbox.faults.clear()
    place.wake()
    place.worker()
    wait_until(lambda: place.has_a_page(checkout_id), place.log, 60)
    page.reload()
    operator.reads("nobody waits")


def test_duplicate_subscription_is_ended_by_a_button(place: Place, page: Page) -> None:
    """CON-15"""
    customer, first, second = world.duplicate_subscription(place)
    operator = Operator("duplicate_subscription", place, page)
    operator.follows("Show the oldest incident")
    operator.reads(first, second, "9.00 USD")
    operator.opens(f"Keep {first}", f"onelane incidents resolve 1 --keep {first}", why="bought twice")
    operator.looks()
    place.worker()
    operator.presses()
    operator.reads("It is over.")
    assert place.shop.live(customer) == [first]
    assert place.shop.refunded(second) > 0
    operator.is_rid_of_it()


def test_changes_that_the_application_refused_are_sent_again_by_a_button(place: Place, page: Page) -> None:
    """CON-15"""
    world.endpoint_down(place)
    operator = Operator("endpoint_down", place, page)
    operator.reads("On the command line onelane notifications test")
    operator.follows("Show the notifications that wait")
    operator.reads("The application answered 500.")
    operator.opens("Send 1 again", "onelane notifications resend --status pending", why="it is up again")
    operator.looks()
    place.application.status = 204
    place.worker()
    operator.presses()
    expect(page.get_by_role("table")).to_contain_text("delivered", timeout=WAIT)  # the filter has the word, too
    [row, *_] = place.shop.rows(outbox)
    assert [one["status"] for one in row.history] == [500, 204]
    operator.is_rid_of_it()


def test_buyer_without_access_is_compared_with_stripe_by_a_button(place: Place, page: Page) -> None:
    """CON-15"""
    world.paid_without_access(place)
    operator = Operator("paid_without_access", place, page)
    operator.reads("Somebody paid and has no access? Look for them above")
    operator.searches("user_1")
    operator.reads("Has no access", "Nothing is known that gives access", "Stripe was never asked about them")
    operator.opens("Compare with Stripe now", "onelane customers sync user_1", why="called at 03:00, has a receipt")
    operator.looks()
    place.worker()
    operator.presses()
    operator.reads("Has access")
