"""Which of two pays is read from the invoices of the running period, over the sandbox; no status cancels anything."""

from typing import Any

import pytest

from billing.database import Database
from tests.support.duplicates_world import Shop

ADDON: dict[str, Any] = {"object": "price", "id": "price_addon", "product": "prod_addon", "currency": "usd"}
ADDON |= {"unit_amount": 300, "recurring": {"interval": "month", "interval_count": 1}}


@pytest.fixture
def shop(database: Database) -> Shop:
    """An empty ledger, an empty Stripe that sells something beside the plans."""
    shop = Shop(database)
    shop.sandbox.seed([{"object": "product", "id": "prod_addon", "name": "Add-on"}, ADDON])
    return shop


def change(shop: Shop, subscription: str, **fields: Any) -> None:
    """What a person changes at Stripe."""
    answer = shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", fields)
    assert answer.status == 200, answer.body


def owe_something_small(shop: Shop, older: str) -> None:
    """The period is paid; an add-on's invoice in the middle of it is not."""
    for card in shop.objects("payment_method"):
        shop.sandbox.card_answers(card["id"], "generic_decline")
    change(shop, older, items=[{"price": "price_addon"}], proration_behavior="always_invoice")


def give_it_for_free(shop: Shop, older: str) -> None:
    """Support gives away everything from the next period on, which has begun."""
    shop.sandbox.seed([{"object": "coupon", "id": "gift", "percent_off": 100, "duration": "forever"}])
    change(shop, older, discounts=[{"coupon": "gift"}])
    shop.clock.advance(days=32)
    shop.sandbox.tick()


def void_the_renewal(shop: Shop, older: str) -> None:
    """Support gives away a month whose payment failed."""
    for card in shop.objects("payment_method"):
        shop.sandbox.card_answers(card["id"], "generic_decline")
    shop.clock.advance(days=32)
    [latest] = (one["latest_invoice"] for one in shop.objects("subscription") if one["id"] == older)
    assert shop.sandbox.request("POST", f"/v1/invoices/{latest}/void").status == 200


def void_the_renewal_and_owe_something_small(shop: Shop, older: str) -> None:
    """The status is the add-on's."""
    void_the_renewal(shop, older)
    change(shop, older, items=[{"price": "price_addon"}], proration_behavior="always_invoice")


def resume_after_a_month_for_nothing(shop: Shop, older: str, behavior: str = "void") -> None:
    """Its collection was paused when the running period began."""
    change(shop, older, pause_collection={"behavior": behavior})
    shop.clock.advance(days=32)
    shop.sandbox.tick()
    change(shop, older, pause_collection="")


def resume_after_a_month_that_is_a_draft(shop: Shop, older: str) -> None:
    """Nobody has finalized what the pause left behind."""
    resume_after_a_month_for_nothing(shop, older, "keep_as_draft")


def move_to_another_price(shop: Shop, older: str) -> None:
    """In the portal, to something that the catalog does not sell: our tag stays, and it gives no access."""
    [item] = next(one for one in shop.objects("subscription") if one["id"] == older)["items"]["data"]
    change(shop, older, items=[{"id": item["id"], "price": "price_addon"}], proration_behavior="none")


@pytest.mark.parametrize(
    ("happens", "status", "words"),
    [
        (owe_something_small, "past_due", "has an open invoice"),
        (give_it_for_free, "active", "this period costs nothing"),
        (void_the_renewal, "active", "this period costs nothing"),
        (void_the_renewal_and_owe_something_small, "past_due", "has an open invoice"),
        (resume_after_a_month_for_nothing, "active", "this period costs nothing"),
        (resume_after_a_month_that_is_a_draft, "active", "this period costs nothing"),
        (move_to_another_price, "active", "does not sell"),
    ],
)
def test_older_one_that_pays_for_less_or_for_something_else_is_left_to_a_person(
    shop: Shop, happens: Any, status: str, words: str
) -> None:
    """SUB-16, SUB-68, SUB-117: the newer one is paid for."""
    customer = shop.customer()
    [older] = shop.live(customer)
    happens(shop, older)
    newer = shop.another(customer)
    assert next(one for one in shop.objects("subscription") if one["id"] == older)["status"] == status
    shop.remedy(shop.found(customer))
    assert sorted(shop.live(customer)) == sorted([older, newer])
    assert (shop.objects("refund"), shop.states()) == ([], [])
    assert words in shop.reason()
    assert newer in shop.reason()


def test_newer_one_for_which_a_person_planned_something_is_left_to_a_person(shop: Shop) -> None:
    """SUB-117: finance put it under a schedule."""
    customer = shop.customer()
    newer = shop.another(customer)
    made = shop.sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": newer})
    assert made.status == 200
    shop.remedy(shop.found(customer))
    assert newer in shop.live(customer)
    assert "held by somebody" in shop.reason()
