"""What a refusal says, to the buyer's program and to a person of support: a code, a sentence, ids and dates. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from billing.clock import iso
from billing.errors import OPERATORS, for_buyer
from billing.operations.calls import Refusal
from billing.operations.ends import PlannedEnd
from billing.rules.words import in_number


def already_canceling(end: PlannedEnd) -> Refusal:
    """A cancellation that is planned, or an earlier end."""
    return _canceling("This subscription ends at the end of its period already.", end)


def is_canceling(end: PlannedEnd) -> Refusal:
    """A switch of what is canceled: it would end before."""
    return _canceling("This subscription is about to end. Reactivate it first.", end)


def ends_elsewhere(end: PlannedEnd) -> Refusal:
    """An end that is not the buyer's to take back."""
    detail = f"Somebody else fixed the end of this subscription: {_iso(end.at)}."
    return Refusal("managed_elsewhere", detail, {"managed_by": "fixed_end", "ends_at": _iso(end.at)})


def scheduled_elsewhere(schedule: Mapping[str, Any]) -> Refusal:
    """What a buyer's support needs to find it."""
    changes_at = (schedule.get("current_phase") or {}).get("end_date")
    last = max((phase.get("end_date") or 0 for phase in schedule.get("phases") or []), default=0)
    extra: dict[str, Any] = {"managed_by": "schedule", "schedule_id": schedule.get("id")}
    extra["changes_at"] = _iso(changes_at) if changes_at else None
    if schedule.get("end_behavior") == "cancel":
        extra["ends_at"] = _iso(last) if last else None
    detail = f"Somebody else planned this subscription with the schedule {schedule.get('id')}."
    return Refusal("managed_elsewhere", detail, extra)


def begins_elsewhere(schedule: Mapping[str, Any]) -> Refusal:
    """A subscription that does not exist yet: somebody planned that it begins, and then it bills."""
    begins = min((phase["start_date"] for phase in schedule.get("phases") or [] if phase.get("start_date")), default=0)
    detail = f"Somebody else planned that another subscription begins: {_iso(begins)} (schedule {schedule.get('id')})."
    extra = {"managed_by": "schedule", "schedule_id": schedule.get("id"), "changes_at": _iso(begins)}
    return Refusal("managed_elsewhere", detail, extra)


def some_go_on(going_on: Sequence[tuple[str, Refusal]], live: int) -> Refusal:
    """Of several subscriptions: which still bill, and why."""
    _, first = going_on[0]
    listed = [
        {"id": id_, "code": why.code, "detail": why.detail, **(for_buyer(why.extra) or {})} for id_, why in going_on
    ]
    ended = live - len(going_on)
    which = f"of {live} subscriptions"  # two or more
    detail = (
        in_number(len(going_on), f"{which} goes on and still bills: ", f"{which} go on and still bill: ")
        + " ".join(f"{id_}: {why.detail}" for id_, why in going_on)
        + (f" The other{'s end' if ended > 1 else ' ends'} at the end of the period." if ended else "")
    )
    by_stripe = " ".join(why.extra[OPERATORS] for _, why in going_on if OPERATORS in why.extra)
    extra = {**first.extra, **({OPERATORS: by_stripe} if by_stripe else {})}
    return Refusal(first.code, detail, {**extra, "still_billing": listed})


def _canceling(detail: str, end: PlannedEnd) -> Refusal:
    return Refusal("already_canceling", detail, {"ends_at": _iso(end.at)})


def _iso(seconds: int) -> str | None:
    return iso(datetime.fromtimestamp(seconds, UTC))
