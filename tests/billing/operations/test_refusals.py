"""What a refusal tells a buyer's support, as tables."""

from typing import Any

import pytest

from billing.operations.refusals import begins_elsewhere, scheduled_elsewhere

SOON, LATER = 1_800_000_000, 1_831_536_000
IN_WORDS = {SOON: "2027-01-15T08:00:00Z", LATER: "2028-01-15T08:00:00Z"}


@pytest.mark.parametrize(
    ("schedule", "extra"),
    [
        (
            {
                "end_behavior": "cancel",
                "current_phase": {"end_date": SOON},
                "phases": [{"end_date": LATER}, {"end_date": SOON}],
            },
            {"changes_at": IN_WORDS[SOON], "ends_at": IN_WORDS[LATER]},
        ),
        (
            {"end_behavior": "release", "current_phase": {"end_date": SOON}, "phases": [{"end_date": SOON}]},
            {"changes_at": IN_WORDS[SOON]},
        ),
        ({"end_behavior": "cancel", "current_phase": None, "phases": []}, {"changes_at": None, "ends_at": None}),
        ({"end_behavior": "cancel", "phases": [{"end_date": None}]}, {"changes_at": None, "ends_at": None}),
    ],
)
def test_schedule_of_somebody_else_is_named_with_what_it_does_and_when(
    schedule: dict[str, Any], extra: dict[str, Any]
) -> None:
    """SUB-83"""
    refusal = scheduled_elsewhere({"id": "sub_sched_1", **schedule})
    assert refusal.code == "managed_elsewhere"
    assert refusal.extra == {"managed_by": "schedule", "schedule_id": "sub_sched_1", **extra}
    assert "sub_sched_1" in refusal.detail


@pytest.mark.parametrize(
    "phases", [[{"start_date": LATER}, {"start_date": SOON}], [{"start_date": None}, {"start_date": SOON}, {}]]
)
def test_subscription_to_come_is_named_with_its_first_day(phases: list[dict[str, Any]]) -> None:
    """SUB-89"""
    refusal = begins_elsewhere({"id": "sub_sched_1", "phases": phases})
    assert (refusal.code, refusal.extra["changes_at"]) == ("managed_elsewhere", IN_WORDS[SOON])
    assert IN_WORDS[SOON] in refusal.detail
