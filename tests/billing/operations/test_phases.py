"""The phases of a switch, as tables: what is sent back of Stripe's own phase."""

from typing import Any

import pytest

from billing.operations.phases import agrees, carry, exchange, is_ours, metered_prices, write_phases
from tests.support.builders import CATALOG

NOW, END = 1_800_000_000, 1_802_592_000
PLAN = CATALOG.plans["commit"]


def phase(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """The phase that runs, as Stripe shows it."""
    return {"start_date": NOW, "end_date": END, "proration_behavior": "none", "items": list(items), **fields}


def test_item_billed_by_usage_is_carried_without_a_quantity() -> None:
    """SUB-82: Stripe shows one where the phase has been asked for with its plan, and refuses it."""
    both = phase({"price": {"id": "price_1"}, "quantity": 3}, {"price": "price_used", "quantity": 1})
    assert carry(both, metered={"price_used"}) == {
        "items": [{"price": "price_1", "quantity": 3}, {"price": "price_used"}]
    }


def test_price_billed_by_usage_is_told_by_its_missing_quantity() -> None:
    """SUB-82"""
    items = [
        {"price": {"id": "price_1"}, "quantity": 1},
        {"price": {"id": "price_used"}},
        {"price": "price_2", "quantity": 0},
    ]
    assert metered_prices({"items": {"data": items}}) == {"price_used"}


@pytest.mark.parametrize(("quantity", "sent"), [(3, 3), (1, 1), (None, PLAN.min_quantity)])
def test_quantity_of_the_plan_goes_on(quantity: int | None, sent: int) -> None:
    """SUB-82: the least that is sold where there was none."""
    first = {"items": [{"price": "price_add_on", "quantity": 7}, {"price": "price_1"}]}
    assert exchange(first, price="price_1", plan=PLAN, quantity=quantity)["items"] == [
        {"price": "price_add_on", "quantity": 7},
        {"price": PLAN.price, "quantity": sent},
    ]


@pytest.mark.parametrize(
    ("of_phase", "of_subscription", "same"),
    [
        ({}, {}, True),
        ({"discounts": [{"discount": "di_1"}]}, {"discounts": ["di_1"]}, True),
        ({"discounts": [{"discount": "di_1"}]}, {"discounts": []}, False),
        ({}, {"discounts": ["di_1"]}, False),
        ({"discounts": [{"discount": "di_1"}]}, {"discounts": ["di_2"]}, False),
        ({"discounts": [{"discount": "di_2"}, {"discount": "di_1"}]}, {"discounts": ["di_1", {"id": "di_2"}]}, True),
        ({"default_tax_rates": ["txr_1"]}, {"default_tax_rates": [{"id": "txr_1"}]}, True),
        ({"default_tax_rates": ["txr_1"]}, {}, False),
    ],
)
def test_phase_agrees_with_a_subscription_that_has_the_same(
    of_phase: dict[str, Any], of_subscription: dict[str, Any], same: bool
) -> None:
    """SUB-82: discounts and taxes count, in any order and form."""
    runs = phase({"price": "price_1", "quantity": 1}, **of_phase)
    item = {"price": {"id": "price_1"}, "quantity": 1}
    assert (
        agrees({"current_phase": {"start_date": NOW}, "phases": [runs]}, {"items": {"data": [item]}, **of_subscription})
        is same
    )


@pytest.mark.parametrize(
    ("of_phase", "of_item", "same"),
    [
        ({"quantity": 2}, {"quantity": 2}, True),
        ({"quantity": 2}, {"quantity": 1}, False),
        ({"tax_rates": ["txr_1"]}, {"tax_rates": [{"id": "txr_1"}]}, True),
        ({"tax_rates": ["txr_1"]}, {}, False),
        ({"discounts": [{"discount": "di_1"}]}, {"discounts": ["di_1"]}, True),
        ({}, {"discounts": ["di_1"]}, False),
    ],
)
def test_phase_agrees_item_by_item(of_phase: dict[str, Any], of_item: dict[str, Any], same: bool) -> None:
    """SUB-82"""
    runs = phase({"price": "price_1", **of_phase})
    subscription = {"items": {"data": [{"price": {"id": "price_1"}, **of_item}]}}
    assert agrees({"current_phase": {"start_date": NOW}, "phases": [runs]}, subscription) is same


@pytest.mark.parametrize(
    ("written", "shown", "ours"),
    [
        ({}, {}, True),
        ({}, {"automatic_tax": {"enabled": False, "liability": None}}, True),
        ({}, {"automatic_tax": {"enabled": True, "liability": None}}, False),
        ({"automatic_tax": {"enabled": True}}, {"automatic_tax": {"enabled": False}}, False),
        ({}, {"currency": "usd"}, True),
        ({}, {"description": "By contract 17"}, False),
        ({}, {"items": [{"price": PLAN.price, "quantity": 1}]}, True),
        ({}, {"items": [{"price": PLAN.price, "quantity": 2}]}, False),
        ({}, {"items": [{"price": "price_1", "quantity": 1}]}, False),
        ({}, {"items": [{"price": PLAN.price, "quantity": 1, "tax_rates": ["txr_1"]}]}, False),
        ({}, {"items": [{"price": PLAN.price, "quantity": 1}, {"price": "price_a", "quantity": 1}]}, False),
        ({}, {"start_date": END + 1}, False),
        ({"billing_cycle_anchor": "phase_start"}, {}, True),  # it is not repeated
    ],
)
def test_schedule_is_ours_while_stripe_shows_what_we_wrote(
    written: dict[str, Any], shown: dict[str, Any], ours: bool
) -> None:
    """SUB-83: what Stripe shows, sent or not, is nobody's change."""
    item = {"price": {"id": "price_1"}, "quantity": 1, "current_period_end": END}
    subscription = {"items": {"data": [item]}}
    runs = phase({"price": "price_1", "quantity": 1}, **written)
    made = {"current_phase": {"start_date": NOW, "end_date": END}, "phases": [runs]}
    sent = write_phases(made, subscription, item, PLAN, CATALOG.product)
    later = {**sent["phases"][1], "start_date": END, "end_date": END + 1, **shown}
    schedule = {**made, **sent, "phases": [runs, {name: later[name] for name in later if name != "duration"}]}
    assert is_ours(schedule, subscription, CATALOG) is ours


def test_order_of_a_phases_items_is_nobodys_change() -> None:
    """SUB-83"""
    item = {"price": {"id": "price_1"}, "quantity": 1, "current_period_end": END}
    addon = {"price": {"id": "price_a"}, "quantity": 2, "current_period_end": END}
    subscription = {"items": {"data": [item, addon]}}
    runs = phase({"price": "price_1", "quantity": 1}, {"price": "price_a", "quantity": 2})
    made = {"current_phase": {"start_date": NOW, "end_date": END}, "phases": [runs]}
    sent = write_phases(made, subscription, item, PLAN, CATALOG.product)
    later = {**sent["phases"][1], "start_date": END, "end_date": END + 1}
    del later["duration"]
    later["items"] = later["items"][::-1]
    assert is_ours({**made, **sent, "phases": [runs, later]}, subscription, CATALOG) is True
