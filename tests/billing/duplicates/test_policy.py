"""The rule about duplicates, as a table: which one stays, which ones may be canceled."""

from typing import Any

import pytest

from billing.duplicates.policy import decide
from tests.support.builders import CATALOG, build_subscription, stamp
from tests.support.builders import NOON as T

NOON = stamp(T)
ELSEWHERE: dict[str, Any] = {"metadata": {}}  # of our product by its price only
OTHER: dict[str, Any] = {"metadata": {}, "price": "price_of_another_product"}


def at(second: int, id: str, **instead: Any) -> dict[str, Any]:
    """A subscription that was created so many seconds after noon."""
    return build_subscription(id, created=NOON + second, **instead)


@pytest.mark.parametrize(
    ("subscriptions", "cancel", "needs_a_person"),
    [
        ([], (), False),
        ([at(0, "sub_a")], (), False),
        ([at(0, "sub_a"), at(1, "sub_b")], ("sub_b",), False),
        ([at(1, "sub_a"), at(0, "sub_b")], ("sub_a",), False),  # by time, not by id
        ([at(0, "sub_b"), at(0, "sub_a")], ("sub_b",), False),  # by id where the second is the same
        ([at(2, "sub_c"), at(0, "sub_a"), at(1, "sub_b")], ("sub_b", "sub_c"), False),
        ([at(0, "sub_a"), at(1, "sub_b", status="canceled")], (), False),
        ([at(0, "sub_a", status="canceled"), at(1, "sub_b")], (), False),
        ([at(0, "sub_a", status="incomplete_expired"), at(1, "sub_b"), at(2, "sub_c")], ("sub_c",), False),
        ([at(0, "sub_a"), at(1, "sub_b", status="incomplete")], ("sub_b",), False),
        ([at(0, "sub_a", status="trialing"), at(1, "sub_b", status="paused")], ("sub_b",), False),
        ([at(0, "sub_a", status="past_due"), at(1, "sub_b")], ("sub_b",), False),
    ],
)
def test_oldest_stays_and_newer_tagged_ones_go(subscriptions: Any, cancel: Any, needs_a_person: bool) -> None:
    """SUB-16"""
    decision = decide(subscriptions, CATALOG)
    assert (decision.cancel, decision.reason is not None) == (cancel, needs_a_person)


@pytest.mark.parametrize(
    ("subscriptions", "cancel", "needs_a_person"),
    [
        ([at(0, "sub_a"), at(1, "sub_b", **ELSEWHERE)], (), True),
        ([at(0, "sub_a", **ELSEWHERE), at(1, "sub_b")], ("sub_b",), False),
        ([at(0, "sub_a"), at(1, "sub_b", **ELSEWHERE), at(2, "sub_c")], ("sub_c",), True),
        ([at(0, "sub_a", **ELSEWHERE), at(1, "sub_b", **ELSEWHERE)], (), True),
        ([at(0, "sub_a", **OTHER), at(1, "sub_b")], (), False),  # another product's blocks nothing, and keeps nothing
        ([at(0, "sub_a"), at(1, "sub_b", metadata={"type": "another"}, price="price_kiloclaw_commit")], (), True),
    ],
)
def test_what_was_made_elsewhere_is_never_canceled(subscriptions: Any, cancel: Any, needs_a_person: bool) -> None:
    """SUB-17"""
    decision = decide(subscriptions, CATALOG)
    assert (decision.cancel, decision.reason is not None) == (cancel, needs_a_person)


@pytest.mark.parametrize(
    "oldest",
    [
        {"status": "incomplete"},
        {"status": "unpaid"},
        {"status": "paused"},
        {"status": "a status that Stripe adds"},
        {"cancel_at_period_end": True},
        {"cancel_at": NOON + 1000},
    ],
)
def test_nothing_is_canceled_for_one_that_may_not_last(oldest: dict[str, Any]) -> None:
    """SUB-18"""
    decision = decide([at(0, "sub_a", **oldest), at(1, "sub_b")], CATALOG)
    assert decision.cancel == ()
    assert "sub_a" in (decision.reason or "")
