"""The phases of a switch, as tables: what is sent back of Stripe's own phase."""

from typing import Any

import pytest

from billing.operations.phases import (
    NotCarriedError,
    agrees,
    carry,
    exchange,
    is_bare,
    is_ours,
    metered_prices,
    write_phases,
)
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
        ({}, {"trial_end": END + 5}, False),  # finance gives a free time
        ({}, {"billing_cycle_anchor": "phase_start"}, False),
        ({}, {"billing_cycle_anchor": None, "trial_end": None}, True),
        ({"billing_cycle_anchor": "phase_start", "trial_end": NOW + 5}, {}, True),  # they are not repeated
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


@pytest.mark.parametrize(("pauses", "ours"), [([], True), ([{"key": "holidays"}], False)])
def test_schedule_with_a_planned_pause_is_somebody_elses(pauses: list[dict[str, str]], ours: bool) -> None:
    """SUB-83: a release would drop it."""
    item = {"price": {"id": "price_1"}, "quantity": 1, "current_period_end": END}
    subscription = {"items": {"data": [item]}}
    runs = phase({"price": "price_1", "quantity": 1}) | {"start_date": NOW, "end_date": END}
    bare = {"current_phase": {"start_date": NOW, "end_date": END}, "phases": [runs], "pause_schedules": pauses}
    assert is_bare({**bare, "end_behavior": "release"}, subscription) is ours
    sent = write_phases(bare, subscription, item, PLAN, CATALOG.product)
    later = {**sent["phases"][1], "start_date": END, "end_date": END + 1}
    del later["duration"]
    assert is_ours({**bare, **sent, "phases": [runs, later]}, subscription, CATALOG) is ours


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


ITEM = {"price": {"id": "price_1"}, "quantity": 3, "current_period_end": END}
USED = {"price": {"id": "price_used"}, "current_period_end": END - 9}
SUBSCRIPTION = {"items": {"data": [ITEM, USED]}}


def running(*items: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A schedule as Stripe makes it from a subscription; its phase ends with the item that ends first."""
    shown = items or ({"price": "price_1", "quantity": 3}, {"price": "price_used", "quantity": 1})
    runs = {**phase(*shown, **fields), "end_date": END - 9}
    made = {"status": "active", "end_behavior": "release", "metadata": {}, "phases": [runs]}
    return made | {"current_phase": {"start_date": NOW, "end_date": END - 9}}


def test_two_phases_are_the_one_that_runs_and_the_same_with_the_other_plan() -> None:
    """SUB-34, SUB-82: until the plan's own period ends, then one period of the other plan."""
    schedule = running(trial_end=NOW + 5, billing_cycle_anchor="phase_start", description="17", currency="usd")
    sent = write_phases(schedule, SUBSCRIPTION, ITEM, PLAN, CATALOG.product)
    both = {"currency": "usd", "description": "17", "proration_behavior": "none"}
    used = {"price": "price_used"}
    assert sent["phases"] == [
        {**both, "billing_cycle_anchor": "phase_start", "trial_end": NOW + 5, "start_date": NOW, "end_date": END}
        | {"items": [{"price": "price_1", "quantity": 3}, used]},
        {**both, "duration": {"interval": "month", "interval_count": 6}}
        | {"items": [{"price": PLAN.price, "quantity": 3}, used]},
    ]
    assert (sent["end_behavior"], sent["proration_behavior"]) == ("release", "none")
    assert sent["metadata"]["onelane_next"].startswith(f"{END}:")
    metered = PLAN.model_copy(update={"metered": True})
    assert exchange(sent["phases"][0], price="price_1", plan=metered, quantity=3)["items"][0] == {"price": PLAN.price}


@pytest.mark.parametrize(
    ("prices", "words"),
    [
        (["price_2"], "the plan's item"),
        (["price_1", "price_1"], "the plan's item"),
        (["price_1", PLAN.price], "the other plan's price"),
        ([], "the plan's item"),
    ],
    ids=["none", "two", "has it", "empty"],
)
def test_phase_in_which_it_is_not_clear_what_to_exchange_is_refused(prices: list[str], words: str) -> None:
    """SUB-82: and says what it is about."""
    with pytest.raises(NotCarriedError, match=words):
        exchange({"items": [{"price": price} for price in prices]}, price="price_1", plan=PLAN, quantity=1)


ONE = {"add_invoice_items": [{"price": "price_setup"}]}


@pytest.mark.parametrize(
    ("change", "bare"),
    [
        ({}, True),
        ({"metadata": None}, True),
        ({"metadata": {"by": "finance"}}, False),
        ({"end_behavior": "cancel"}, False),
        ({"phases": [*running()["phases"], phase()]}, False),
        ({"phases": []}, False),
        ({"phases": [{**running()["phases"][0], "end_date": END}]}, True),  # an end of either item
        ({"phases": [{**running()["phases"][0], "end_date": END + 1}]}, False),
        ({"phases": [{**running()["phases"][0], **ONE}]}, False),
    ],
)
def test_schedule_in_which_nothing_is_planned_is_bare(change: dict[str, Any], bare: bool) -> None:
    """SUB-83, SUB-88"""
    assert is_bare({**running(), **change}, SUBSCRIPTION) is bare


OURS = {**running(), **write_phases(running(), SUBSCRIPTION, ITEM, PLAN, CATALOG.product)}
FIRST, NEXT = ({**each, "add_invoice_items": []} for each in OURS["phases"])
NEXT = {**NEXT, "start_date": END, "end_date": END + 9}
del NEXT["duration"]
NEXT["items"] = [NEXT["items"][0], {"price": "price_used", "quantity": 1}]  # Stripe shows one for a price by usage
BOTH = {"phases": [FIRST, NEXT], "current_phase": {"start_date": NOW, "end_date": END}}


@pytest.mark.parametrize(
    ("change", "ours"),
    [
        ({}, True),
        ({"metadata": {**OURS["metadata"], "note": "seen"}}, True),
        ({"metadata": {**OURS["metadata"], "type": "another"}}, False),
        ({"metadata": {"type": CATALOG.product}}, False),
        ({"metadata": {**OURS["metadata"], "onelane_next": f"{END}:ab"}}, False),
        ({"metadata": {**OURS["metadata"], "onelane_next": "soon"}}, False),
        ({"end_behavior": "cancel"}, False),
        ({"phases": [{**FIRST, "description": "18"}, NEXT]}, True),  # it holds for the subscription already
        ({"phases": [{**FIRST, **ONE}, NEXT]}, False),
        ({"phases": [FIRST, {**NEXT, **ONE}]}, False),
        ({"phases": [FIRST, NEXT, {**NEXT, "start_date": END + 9}]}, False),
        ({"phases": [FIRST]}, False),
        ({"phases": [FIRST, {**NEXT, "start_date": END + 1}]}, False),
        ({"current_phase": {"start_date": NOW, "end_date": END - 1}}, False),  # there is something in between
        ({"current_phase": {"start_date": END, "end_date": END + 9}}, True),  # it runs
        (
            {
                "current_phase": {"start_date": END, "end_date": END + 9},
                "phases": [FIRST, {**NEXT, "description": "18"}],
            },
            True,
        ),
    ],
)
def test_schedule_is_ours_while_it_does_what_we_wrote(change: dict[str, Any], ours: bool) -> None:
    """SUB-83, SUB-88"""
    assert is_ours({**OURS, **BOTH, **change}, SUBSCRIPTION, CATALOG) is ours


def test_plan_by_usage_that_we_wrote_is_known_by_the_catalog() -> None:
    """SUB-83: the subscription has no such item yet, and Stripe shows a quantity."""
    usage = PLAN.model_copy(update={"key": "usage", "price": "price_metered", "metered": True})
    catalog = CATALOG.model_copy(update={"plans": {**CATALOG.plans, "usage": usage}})
    sent = write_phases(running(), SUBSCRIPTION, ITEM, usage, CATALOG.product)
    items = [{"price": "price_metered", "quantity": 1}, {"price": "price_used", "quantity": 1}]
    later = {"start_date": END, "end_date": END + 9, "items": items}
    schedule = {**running(), **sent, **BOTH, "phases": [FIRST, later]}
    assert is_ours(schedule, SUBSCRIPTION, catalog) is True
