"""A schedule's course: it begins, goes from phase to phase, lets its subscription go, or ends it.

The next phase begins at the end of the current one (`advance`, which `cycle.py` calls before it renews). While a
schedule with `end_behavior=cancel` governs it, a subscription carries the last phase's end as its `cancel_at`.
"""

from typing import Any

from . import lifecycle, schedule_entry, subscription_objects, subscriptions
from .calls import Call
from .errors import Json
from .events import emit
from .schedule_phases import KEPT

TOLD_BEFORE = 7 * 86400


def due(call: Call, one: Json) -> None:
    """What time does to it of itself: it begins, and some days before its end that is said."""
    if one["status"] == "not_started":
        begin(call, one)
    elif one["status"] == "active":
        emit(call, "subscription_schedule.expiring", call.store.change("subscription_schedule", one["id"], _due=None))


def told_at(call: Call, phases: list[Json]) -> float | None:
    """When the end is said, seven days before; never where it is nearer than that."""
    moment = phases[-1]["end_date"] - TOLD_BEFORE
    return float(moment) if moment > call.now else None


def begin(call: Call, old: Json) -> Json:
    """The first phase begins: the schedule makes its subscription, which is billed like any other."""
    phase = old["phases"][0]
    made = subscriptions.made(
        call,
        {
            "customer": old["customer"],
            "items": [
                {**{name: each[name] for name in ("price", "quantity", "metadata") if each.get(name) is not None},
                 "discounts": [{k: v for k, v in one.items() if v} for one in each["discounts"]],
                 "tax_rates": [rate["id"] for rate in each["tax_rates"]]}
                for each in phase["items"]
            ],
            "discounts": [{name: value for name, value in one.items() if value} for one in phase["discounts"]],
            "default_tax_rates": [rate["id"] for rate in phase["default_tax_rates"]],
            "metadata": phase["metadata"],
            **{name: phase[name] for name in (*KEPT, "trial_end") if phase[name] is not None},
            **{name: value for name, value in (phase["invoice_settings"] or {}).items() if name == "days_until_due"},
        },
        scheduled=True,
    )  # fmt: skip
    one = call.store.change(
        "subscription_schedule",
        old["id"],
        status="active",
        subscription=made["id"],
        current_phase=dates(phase),
        _due=told_at(call, old["phases"]),
    )
    emit(call, "subscription_schedule.updated", one, previous=old)
    attach(call, made, one)
    return one


def advance(call: Call, subscription: Json) -> Json:
    """The subscription as its schedule wants it from now on; the end of the last phase lets go of it, or ends it."""
    one = call.find("subscription_schedule", subscription["schedule"])
    if one is None or one["status"] != "active" or one["current_phase"]["end_date"] > call.now:
        return subscription
    coming = [each for each in one["phases"] if each["start_date"] >= one["current_phase"]["end_date"]]
    if not coming:
        if one["end_behavior"] == "cancel":
            return _complete(call, subscription, one)
        let_go(call, one, over=True)
        return call.named("subscription", subscription["id"])
    after = call.store.change("subscription_schedule", one["id"], current_phase=dates(coming[0]))
    changed = schedule_entry.enter(call, subscription, coming[0], one["default_settings"])
    changed = subscription_objects.save(call, changed, **governed(after))
    emit(call, "subscription_schedule.updated", after, previous=one)
    if changed["_due"] is not None and changed["_due"] > call.now:  # no renewal that would announce it follows
        emit(call, "customer.subscription.updated", changed, previous=subscription)
    return changed


def _complete(call: Call, subscription: Json, old: Json) -> Json:
    one = call.store.change(
        "subscription_schedule", old["id"], status="completed", completed_at=call.now, current_phase=None
    )
    emit(call, "subscription_schedule.completed", one)
    return lifecycle.end(call, subscription)


def let_go(call: Call, old: Json, *, keep: bool = False, over: bool = False) -> Json:
    """Released: by a request, which may `keep` the planned end, or because its last phase is `over`."""
    one = call.store.change(
        "subscription_schedule",
        old["id"],
        status="released",
        released_at=call.now,
        completed_at=call.now if over else None,
        released_subscription=old["subscription"],
        subscription=None,
        current_phase=None,
        _due=None,
    )
    if over:
        emit(call, "subscription_schedule.completed", one)
    emit(call, "subscription_schedule.released", one)
    subscription = call.find("subscription", old["subscription"])
    if subscription is not None:
        fields: dict[str, Any] = {"schedule": None, "_phase_ends_at": None}
        if not keep:
            fields["cancel_at"] = None
        after = subscription_objects.save(call, subscription, **fields)
        emit(call, "customer.subscription.updated", after, previous=subscription)
    return one


def attach(call: Call, old: Json, schedule: Json) -> None:
    one = subscription_objects.save(call, old, **governed(schedule))
    emit(call, "customer.subscription.updated", one, previous=old)


def governed(schedule: Json) -> Json:
    """What a subscription carries of its schedule: when it ends by it, and when the phase does."""
    cancels = schedule["end_behavior"] == "cancel"
    return {
        "cancel_at": schedule["phases"][-1]["end_date"] if cancels else None,
        "cancel_at_period_end": False,
        "schedule": schedule["id"],
        "_phase_ends_at": schedule["current_phase"]["end_date"],
    }


def dates(phase: Json) -> Json:
    return {"start_date": phase["start_date"], "end_date": phase["end_date"]}
