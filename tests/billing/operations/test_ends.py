"""Whose end a planned end is, and the writes about it, as tables."""

from typing import Any

import pytest

from billing.operations.calls import Sent
from billing.operations.ends import NEAR, PlannedEnd, cancel, find_end, take_back

DAY = 86_400
START = 100 * DAY
NOW, MONTH, YEAR, TERM = START + 5 * DAY, START + 30 * DAY, START + 365 * DAY, START + 330 * DAY


def build(*, ends: tuple[int, ...] = (MONTH,), **fields: Any) -> dict[str, Any]:
    """A subscription made two periods ago, whose items end then; the first is the plan's."""
    items = [{"current_period_start": START, "current_period_end": end} for end in ends]
    return {"id": "sub_1", "status": "active", "created": START - 30 * DAY, "items": {"data": items}, **fields}


OURS = (Sent("cancel", "sub_1", ends_at=MONTH, term=TERM), Sent("cancel", "sub_1", ends_at=MONTH, term=None))
CASES: dict[str, tuple[dict[str, Any], tuple[Sent, ...], PlannedEnd | None]] = {
    "none": (build(), (), None),
    "the flag": (build(cancel_at_period_end=True), (), PlannedEnd(MONTH, True, True)),
    "the flag and its date": (
        build(cancel_at_period_end=True, cancel_at=MONTH, canceled_at=1),
        (),
        PlannedEnd(MONTH, True, True),
    ),
    "the flag beside an add-on": (
        build(ends=(YEAR, MONTH), cancel_at_period_end=True),
        (),
        PlannedEnd(MONTH, True, True),
    ),
    "the portal, flexible": (build(cancel_at=MONTH, canceled_at=START + DAY), (), PlannedEnd(MONTH, True, True)),
    "the portal, beside a yearly add-on": (
        build(ends=(MONTH, YEAR), cancel_at=YEAR, canceled_at=START + DAY),
        (),
        PlannedEnd(YEAR, True, False),
    ),
    "a term": (build(cancel_at=TERM, canceled_at=START + DAY), (), PlannedEnd(TERM, False, False)),
    "a term in its last period": (build(cancel_at=MONTH, canceled_at=START - DAY), (), PlannedEnd(MONTH, False, True)),
    "a term of one period": (
        build(cancel_at=MONTH, canceled_at=START, created=START),
        (),
        PlannedEnd(MONTH, False, True),
    ),
    "a term that was fixed when it was made, in a period that runs longer": (
        build(cancel_at=MONTH, canceled_at=START + DAY, created=START + DAY),
        (),
        PlannedEnd(MONTH, False, True),
    ),
    "a date within the period": (
        build(cancel_at=START + 9 * DAY, canceled_at=START + DAY),
        (),
        PlannedEnd(START + 9 * DAY, False, True),
    ),
    "ours, which replaced a term": (
        build(cancel_at=MONTH, canceled_at=START - DAY),
        OURS,
        PlannedEnd(MONTH, True, True, TERM),
    ),
    "ours, and moved since": (
        build(cancel_at=TERM + 1, canceled_at=START + DAY),
        OURS,
        PlannedEnd(TERM + 1, False, False),
    ),
    "another subscription's": (
        build(cancel_at=MONTH, canceled_at=START - DAY),
        (Sent("cancel", "sub_2", ends_at=MONTH),),
        PlannedEnd(MONTH, False, True),
    ),
    "paused, about to end": (
        build(ends=(START + DAY,), status="paused", cancel_at=NOW + NEAR, canceled_at=NOW),
        (Sent("cancel", "sub_1", ends_at=NOW + NEAR),),
        PlannedEnd(NOW + NEAR, True, True),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_end_is_a_cancellation_or_fixed_by_somebody(name: str) -> None:
    """SUB-85"""
    subscription, ours, end = CASES[name]
    assert find_end(subscription, subscription["items"]["data"][0], ours, NOW) == end


@pytest.mark.parametrize(
    ("subscription", "end", "sent", "term"),
    [
        (build(), None, {"cancel_at": MONTH}, None),
        (build(ends=(YEAR, MONTH)), None, {"cancel_at": YEAR}, None),
        (build(), PlannedEnd(TERM, False, False), {"cancel_at": MONTH}, TERM),
        (build(ends=(START + DAY,), status="paused"), None, {"cancel_at": NOW + NEAR}, None),
        (build(ends=(START + DAY,)), None, {"cancel_at_period_end": True}, None),
    ],
)
def test_cancelling_names_the_end_of_the_plans_own_period(
    subscription: dict[str, Any], end: PlannedEnd | None, sent: dict[str, Any], term: int | None
) -> None:
    """SUB-31: a period that is over has no date yet, unless the subscription is paused."""
    call = cancel(subscription, subscription["items"]["data"][0], end, NOW)
    unprorated = {"proration_behavior": "none"} if "cancel_at" in sent else {}
    assert (call.parameters, call.term) == (sent | unprorated, term)


@pytest.mark.parametrize(
    ("subscription", "end", "sent"),
    [
        (build(cancel_at=MONTH), PlannedEnd(MONTH, True, True), {"cancel_at": ""}),
        (build(cancel_at=MONTH), PlannedEnd(MONTH, True, True, TERM), {"cancel_at": TERM}),
        (build(cancel_at_period_end=True), PlannedEnd(MONTH, True, True), {"cancel_at_period_end": False}),
        (build(cancel_at_period_end=True), PlannedEnd(MONTH, True, True, TERM), {"cancel_at": TERM}),
    ],
)
def test_taking_a_cancellation_back_restores_what_it_replaced(
    subscription: dict[str, Any], end: PlannedEnd, sent: dict[str, Any]
) -> None:
    """SUB-33, SUB-85"""
    unprorated = {"proration_behavior": "none"} if "cancel_at" in sent else {}
    assert take_back(subscription, end).parameters == sent | unprorated
