"""KiloClaw's rules over HTTP: the application in process, its workers, the sandbox, and a catalog from the page.

The page is docs/examples/kiloclaw.md.
"""

import re
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from billing.catalog import Catalog, parse_catalog
from billing.clock import add_months, iso
from tests.support.checkout_world import ORIGIN, World
from tests.support.claw import Claw
from tests.support.databases import sqlite_in
from tests.support.operations_world import is_ending

PAGE = Path(__file__).parents[2] / "docs" / "examples" / "kiloclaw.md"
CATALOG = parse_catalog(tomllib.loads(re.findall(r"```toml\n(.+?)```", PAGE.read_text("utf-8"), re.DOTALL)[0]))
FIRST_MONTH = [{"coupon": "kiloclaw_first_month", "promotion_code": None}]


def sells(catalog: Catalog, plan: str, **instead: Any) -> Catalog:
    """The catalog with something else about one plan."""
    changed = catalog.plans[plan].model_copy(update=instead)
    return catalog.model_copy(update={"plans": {**catalog.plans, plan: changed}})


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with sqlite_in(tmp_path) as database:
        yield World(database, catalog=CATALOG)


@pytest.fixture
def claw(world: World) -> Claw:
    return Claw(world)


def code(answer: TestResponse) -> tuple[int, str]:
    """The status and the problem's code."""
    return answer.status_code, answer.get_json(force=True)["code"]


def test_links_of_the_page_lead_somewhere() -> None:
    links = re.findall(r"\]\(((?!https?:)[^)#]+)\)", PAGE.read_text("utf-8"))
    assert links
    assert [link for link in links if not PAGE.parent.joinpath(link).exists()] == []


# --- plans and trial


def test_two_plans_and_no_price_from_a_client(claw: Claw) -> None:
    """KIL-1"""
    listed = claw.web.get("/v1/plans", user=None).get_json()["plans"]
    assert [(plan["plan"], plan["interval_count"]) for plan in listed] == [("standard", 1), ("commit", 6)]
    assert claw.web.checkout(plan="gold").status_code == 422
    assert claw.web.checkout(price="price_mine").status_code == 422


def test_first_look_begins_seven_days(claw: Claw) -> None:
    """KIL-2"""
    assert claw.access() == (True, "product_trial")
    until = claw.status()["access"]["until"]
    claw.world.clock.advance(days=3)
    assert claw.status()["access"]["until"] == until
    claw.world.clock.advance(days=4)
    assert claw.access() == (False, "no_subscription")


def test_commitment_is_renewed_for_six_months(claw: Claw) -> None:
    """KIL-3"""
    bought = claw.world.clock.now()
    claw.buy("commit")
    assert claw.status()["subscription"]["commitment_ends_at"] == iso(add_months(bought, 6))
    claw.go_to(claw.status()["subscription"]["current_period_end"])
    shown = claw.status()["subscription"]
    assert (shown["plan"], shown["status"]) == ("commit", "active")
    assert shown["commitment_ends_at"] == iso(add_months(bought, 12))
    assert [one["amount_paid"] for one in claw.world.objects("invoice")] == [4800, 4800]


# --- checkout


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ("active", "already_subscribed"),
        ("trialing", "already_subscribed"),
        ("past_due", "already_subscribed"),
        ("unpaid", "payment_in_progress"),
    ],
)
def test_subscriber_gets_no_second_page(claw: Claw, status: str, why: str) -> None:
    """KIL-4"""
    subscription = claw.buy()["id"]
    claw.world.sandbox.force_status(subscription, status)
    refused = claw.web.checkout(plan="commit")
    assert code(refused) == (409, why)
    assert claw.world.sessions("open") == []


def test_page_during_the_trial_and_after_the_end(claw: Claw) -> None:
    """KIL-5"""
    assert claw.access() == (True, "product_trial")
    subscription = claw.buy()["id"]
    assert claw.access() == (True, "active")
    claw.end(subscription)
    assert claw.access() == (False, "canceled")
    assert claw.web.checkout().status_code == 201


def test_who_left_the_page_gets_one(claw: Claw) -> None:
    """KIL-6"""
    first = claw.web.checkout().get_json()
    again = claw.web.checkout().get_json()
    assert (again["url"], again["reused"]) == (first["url"], True)
    other = claw.web.checkout(plan="commit").get_json()
    assert other["session_id"] != first["session_id"]
    assert [one["id"] for one in claw.world.sessions("open")] == [other["session_id"]]
    assert [one["id"] for one in claw.world.sessions("expired")] == [first["session_id"]]


def test_other_products_are_left_alone(claw: Claw) -> None:
    """KIL-7"""
    claw.web.checkout()
    customer = claw.world.objects("customer")[0]["id"]
    theirs = {
        "mode": "subscription",
        "customer": customer,
        "line_items": [{"price": CATALOG.plans["standard"].price, "quantity": 1}],
        "success_url": f"{ORIGIN}/ok",
        "metadata": {"type": "kilo-pass"},
    }
    other = claw.world.sandbox.request("POST", "/v1/checkout/sessions", theirs).body["id"]
    claw.web.checkout(plan="commit")
    assert other in {one["id"] for one in claw.world.sessions("open")}


def test_two_tabs_end_with_one_page(claw: Claw) -> None:
    """KIL-8: both asked before a worker looks."""
    asked = [claw.world.ask() for _ in range(3)]
    claw.world.work()
    assert len({claw.world.view(id_).url for id_ in asked}) == 1
    assert len(claw.world.sessions("open")) == 1
    claw.world.sandbox.pay(claw.world.sessions("open")[0]["id"])
    claw.told()
    assert code(claw.web.checkout()) == (409, "already_subscribed")
    assert len(claw.world.objects("subscription")) == 1


def test_first_month_is_cheaper_for_who_never_paid(claw: Claw) -> None:
    """KIL-9"""
    claw.access()  # the product's trial is none of Stripe's
    claw.web.checkout()
    assert claw.world.sessions("open")[0]["discounts"] == FIRST_MONTH
    claw.end(claw.buy()["id"])
    claw.web.checkout()
    assert not claw.world.sessions("open")[0]["discounts"]


def test_billing_that_starts_later_charges_nothing_before(world: World) -> None:
    """KIL-10, KIL-23: and grants access, the commitment beginning with it."""
    starts = int((world.clock.now() + timedelta(days=20)).timestamp())
    world.catalog = sells(CATALOG, "commit", trial_end=starts)
    claw = Claw(world)
    claw.buy("commit")
    shown = claw.status()
    assert (shown["access"]["granted"], shown["access"]["reason"]) == (True, "trialing")
    assert shown["subscription"]["commitment_ends_at"] == iso(add_months(datetime.fromtimestamp(starts, UTC), 6))
    assert [one["amount_paid"] for one in world.objects("invoice")] == [0]
    claw.go_to(starts)
    assert claw.access() == (True, "active")
    assert [one["amount_paid"] for one in world.objects("invoice")] == [4800, 0]


def test_billing_that_has_started_charges_at_once(world: World) -> None:
    """KIL-10"""
    world.catalog = sells(CATALOG, "commit", trial_end=int(world.clock.now().timestamp()) - 1)
    Claw(world).buy("commit")
    assert [one["amount_paid"] for one in world.objects("invoice")] == [4800]


def test_referral_reaches_session_and_subscription(claw: Claw) -> None:
    """KIL-11"""
    asked = claw.web.checkout(client_reference_id="click_7", metadata={"referral": "ann"}).get_json()
    session = claw.world.sessions("open")[0]
    assert (session["client_reference_id"], session["metadata"]["referral"]) == ("click_7", "ann")
    paid = claw.world.sandbox.pay(asked["session_id"])
    assert claw.at_stripe(str(paid["subscription"]))["metadata"]["referral"] == "ann"


def test_first_month_for_nothing_is_a_subscription(world: World) -> None:
    """KIL-12"""
    world.sandbox.request("POST", "/v1/coupons", {"id": "free", "percent_off": 100, "duration": "once"})
    world.catalog = sells(CATALOG, "standard", coupon="free")
    claw = Claw(world)
    claw.buy()
    assert [one["amount_paid"] for one in world.objects("invoice")] == [0]
    assert claw.access() == (True, "active")
    assert code(claw.web.checkout()) == (409, "already_subscribed")


def test_way_back_from_the_page_means_nothing(claw: Claw) -> None:
    """KIL-13: a card that is declined, then one that is not."""
    claw.access()
    claw.world.clock.advance(days=7)  # no trial any more
    asked = claw.web.checkout().get_json()
    claw.world.sandbox.decline(asked["session_id"])
    claw.told()
    assert claw.access()[0] is False
    claw.world.sandbox.pay(asked["session_id"])
    assert claw.access()[0] is False, "nobody has told us"
    claw.told()
    assert claw.access() == (True, "active")


# --- switching


@pytest.mark.parametrize(("before", "after"), [("standard", "commit"), ("commit", "standard")])
def test_switch_at_the_end_of_the_period(claw: Claw, before: str, after: str) -> None:
    """KIL-14, KIL-17: one subscription all the way."""
    subscription = claw.buy(before)["id"]
    assert claw.change("switch", plan=after).status_code == 200
    shown = claw.status()["subscription"]
    assert (shown["plan"], shown["scheduled_plan"]) == (before, after)
    schedule = claw.world.objects("subscription_schedule")[0]
    assert [phase["items"][0]["price"] for phase in schedule["phases"]] == [
        CATALOG.plans[plan].price for plan in (before, after)
    ]
    changes_at = datetime.fromisoformat(shown["current_period_end"])
    claw.go_to(shown["current_period_end"])
    shown = claw.status()["subscription"]
    assert (shown["id"], shown["plan"], shown["scheduled_plan"]) == (subscription, after, None)
    assert shown["commitment_ends_at"] == (iso(add_months(changes_at, 6)) if after == "commit" else None)
    assert len(claw.world.objects("subscription")) == 1


def test_switch_that_makes_no_sense_is_refused(claw: Claw) -> None:
    """KIL-15"""
    assert code(claw.change("switch", plan="commit")) == (409, "no_subscription")
    claw.buy()
    assert code(claw.change("switch", plan="standard")) == (409, "already_on_plan")


def test_switch_is_taken_back(claw: Claw) -> None:
    """KIL-16"""
    subscription = claw.buy()["id"]
    claw.change("switch", plan="commit")
    assert claw.web.call("DELETE", "/v1/subscription/switch").status_code == 200
    assert claw.at_stripe(subscription)["schedule"] is None
    shown = claw.status()["subscription"]
    assert (shown["plan"], shown["scheduled_plan"]) == ("standard", None)


# --- cancelling


def test_cancellation_that_makes_no_sense_is_refused(claw: Claw) -> None:
    """KIL-18"""
    assert code(claw.change("cancel")) == (409, "no_subscription")
    claw.buy()
    assert claw.change("cancel").status_code == 200
    assert code(claw.change("cancel")) == (409, "already_canceling")


def test_cancellation_releases_a_planned_switch(claw: Claw) -> None:
    """KIL-19, KIL-20: access lasts until the end of the period and is over then."""
    subscription = claw.buy()["id"]
    claw.change("switch", plan="commit")
    assert claw.change("cancel").status_code == 200
    assert claw.world.objects("subscription_schedule")[0]["status"] == "released"
    assert is_ending(claw.at_stripe(subscription))
    shown = claw.status()
    assert shown["subscription"]["cancel_at_period_end"] is True
    assert shown["access"]["until"] == shown["subscription"]["current_period_end"]
    assert claw.access() == (True, "active")
    claw.go_to(shown["subscription"]["current_period_end"])
    assert claw.access() == (False, "canceled")


def test_cancellation_is_taken_back(claw: Claw) -> None:
    """KIL-21"""
    subscription = claw.buy("commit")["id"]
    before = claw.status()
    claw.change("cancel")
    assert claw.change("reactivate").status_code == 200
    assert claw.at_stripe(subscription)["cancel_at"] is None
    assert claw.status() == before


# --- status


def test_fourteen_days_for_a_renewal_that_failed(claw: Claw) -> None:
    """KIL-22"""
    subscription = claw.buy()["id"]
    claw.world.sandbox.force_status(subscription, "past_due")
    claw.told()
    assert claw.access() == (True, "past_due_grace")
    claw.world.clock.advance(days=13)
    assert claw.access() == (True, "past_due_grace")
    claw.world.clock.advance(days=1)
    assert claw.access() == (False, "past_due")
    claw.world.sandbox.force_status(subscription, "active")
    claw.told()
    assert claw.access() == (True, "active")


@pytest.mark.parametrize("status", ["unpaid", "paused", "canceled"])
def test_what_grants_nothing(claw: Claw, status: str) -> None:
    """KIL-23: not even the rest of the product's trial."""
    claw.access()
    subscription = claw.buy()["id"]
    claw.world.sandbox.force_status(subscription, status)
    claw.told()
    assert claw.access() == (False, status)


def test_status_says_everything(claw: Claw) -> None:
    """KIL-24"""
    claw.access()
    claw.buy("commit")
    claw.change("switch", plan="standard")
    shown = claw.status()
    assert set(shown["access"]) == {"granted", "reason", "until"}
    assert set(shown["product_trial"]) == {"started_at", "ends_at"}
    subscription = shown["subscription"]
    named = {name: subscription[name] for name in ("plan", "status", "cancel_at_period_end", "scheduled_plan")}
    assert named == {
        "plan": "commit",
        "status": "active",
        "cancel_at_period_end": False,
        "scheduled_plan": "standard",
    }
    assert subscription["current_period_end"] == subscription["commitment_ends_at"]


def test_portal_leads_back(claw: Claw) -> None:
    """KIL-25"""
    claw.buy()
    opened = claw.web.call("POST", "/v1/portal-sessions", json={"return_url": f"{ORIGIN}/claw"})
    assert opened.status_code == 200
    assert opened.get_json()["url"]
    assert claw.world.objects("portal_session")[0]["return_url"] == f"{ORIGIN}/claw"
    foreign = claw.web.call("POST", "/v1/portal-sessions", json={"return_url": "https://evil.example/"})
    assert foreign.status_code == 422
