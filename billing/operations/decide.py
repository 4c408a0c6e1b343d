"""Decide what an operation does next, from what Stripe says now and what was sent before. Pure.

Plain dicts of Stripe's come in; a `Call` to plan, `Done`, or a `Refusal` goes out. Nothing is kept between two calls:
after a crash the same question gets the same answer, and what was reached is not done again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from billing.catalog import Catalog, Plan
from billing.clock import iso
from billing.rules.product_tag import tag
from billing.subscriptions.projection import Subscription, is_live, project

Json = Mapping[str, Any]

RUNNING = ("not_started", "active")  # the statuses of a schedule that still governs something


class Kind(StrEnum):
    """What a buyer can ask for."""

    CANCEL = "cancel"
    REACTIVATE = "reactivate"
    SWITCH = "switch"
    UNDO_SWITCH = "undo_switch"
    PORTAL = "portal"


class Write(StrEnum):
    """A call that changes something at Stripe."""

    RELEASE = "release"  # take the subscription out of its schedule
    CANCEL = "cancel"
    REACTIVATE = "reactivate"
    SCHEDULE = "schedule"  # put the subscription under a schedule
    PHASES = "phases"
    PORTAL = "portal"


@dataclass(frozen=True, slots=True)
class Call:
    """The next write: what, to which object, with which parameters."""

    name: Write
    target: str
    parameters: Json


@dataclass(frozen=True, slots=True)
class Done:
    """Stripe is as the buyer asked."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The operation cannot be done for this user; `extra` are members of the problem."""

    code: str
    detail: str
    extra: Json


Next = Call | Done | Refusal

NO_SUBSCRIPTION = Refusal("no_subscription", "This user has no subscription to this product.", {})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What Stripe says: the customer's subscription that counts, and the schedule that governs it."""

    customer_id: str
    subscription: Json | None
    schedule: Json | None


def decide(
    kind: Kind,
    request: Json,
    snapshot: Snapshot,
    *,
    sent: Collection[str],
    failed: bool,
    catalog: Catalog,
    now: datetime,
) -> Next:
    """The next step. `sent` names the writes that were answered, `failed` that one of them was refused (SUB-30)."""
    if kind is Kind.PORTAL:
        parameters = {"customer": snapshot.customer_id, "return_url": request["return_url"]}
        if catalog.portal.configuration:  # without one, the account's default
            parameters["configuration"] = catalog.portal.configuration
        return Call(Write.PORTAL, snapshot.customer_id, parameters)
    subscription = snapshot.subscription
    if subscription is None or not is_live(str(subscription.get("status"))):
        return Done() if Write.CANCEL in sent else NO_SUBSCRIPTION  # what we cancelled may have ended meanwhile
    if subscription.get("status") == "incomplete":
        return Refusal("payment_in_progress", "The first payment of this subscription is not settled.", {})
    schedule = snapshot.schedule if snapshot.schedule and snapshot.schedule.get("status") in RUNNING else None
    if failed:  # what we put there and could not finish must not stay
        return _release(schedule) if schedule and Write.SCHEDULE in sent else Done()
    row = project(
        subscription, customer_id=snapshot.customer_id, catalog=catalog, schedule=schedule, before=None, now=now
    )
    match kind:
        case Kind.CANCEL:
            return _cancel(row, schedule, sent)
        case Kind.REACTIVATE:
            return _reactivate(row, schedule)
        case Kind.SWITCH:
            return _switch(row, subscription, schedule, catalog.plans.get(request["plan"]), sent, catalog)
        case Kind.UNDO_SWITCH:
            pending = schedule and (row.scheduled_plan or schedule.get("end_behavior") != "cancel")
            return _release(schedule) if schedule and pending else Done()


def _cancel(row: Subscription, schedule: Json | None, sent: Collection[str]) -> Next:
    """SUB-31, SUB-32: the planned change is released first, since Stripe refuses to cancel under a schedule."""
    if _is_ending(row):
        if Write.CANCEL in sent:
            return Done()
        return Refusal("already_canceling", "This subscription ends at the end of its period already.", _ends(row))
    if schedule:
        return _release(schedule)
    return Call(Write.CANCEL, row.subscription_id, {"cancel_at_period_end": True})


def _reactivate(row: Subscription, schedule: Json | None) -> Next:
    if not _is_ending(row):
        return Done()
    if schedule:
        return _release(schedule)
    parameters: Json = {"cancel_at_period_end": False} if row.cancel_at_period_end else {"cancel_at": ""}
    return Call(Write.REACTIVATE, row.subscription_id, parameters)


def _switch(
    row: Subscription,
    subscription: Json,
    schedule: Json | None,
    plan: Plan | None,
    sent: Collection[str],
    catalog: Catalog,
) -> Next:
    """SUB-34: one subscription, two phases; never a second one."""
    if plan is None:
        return Refusal("invalid_request", "That plan is not sold any more.", {})
    if row.plan == plan.key:
        if Write.PHASES in sent:
            return Done()  # the period ended meanwhile
        return Refusal("already_on_plan", "This subscription is on that plan already.", {"plan": plan.key})
    if _is_ending(row):
        detail = "This subscription is about to end. Reactivate it first."
        return Refusal("already_canceling", detail, _ends(row))
    if not plan.min_quantity <= (row.quantity or 1) <= plan.max_quantity:
        detail = f"That plan is for {plan.min_quantity} to {plan.max_quantity}; this subscription has {row.quantity}."
        return Refusal("invalid_request", detail, {})
    if row.scheduled_plan == plan.key:
        return Done()
    if schedule is None:
        return Call(Write.SCHEDULE, row.subscription_id, {"from_subscription": row.subscription_id})
    return Call(Write.PHASES, str(schedule["id"]), _phases(row, subscription, schedule, plan, catalog))


def _phases(row: Subscription, subscription: Json, schedule: Json, plan: Plan, catalog: Catalog) -> Json:
    """The current plan unchanged to the end of its period, then one period of the next, then a release."""
    start = (schedule.get("current_phase") or {}).get("start_date")
    current: Json = next((phase for phase in schedule.get("phases") or [] if phase.get("start_date") == start), {})
    kept = {
        name: current[name]
        for name in ("collection_method", "currency", "default_payment_method", "description", "trial_end")
        if current.get(name)
    }
    if (current.get("automatic_tax") or {}).get("enabled"):
        kept["automatic_tax"] = {"enabled": True}
    if current.get("default_tax_rates"):
        kept["default_tax_rates"] = [_id(rate) for rate in current["default_tax_rates"]]
    discounts = [found for found in map(_discount, current.get("discounts") or []) if found]
    items = (subscription.get("items") or {}).get("data") or []
    first = {
        **kept,
        **({"discounts": discounts} if discounts else {}),
        "items": [{"price": _id(item["price"]), "quantity": item.get("quantity") or 1} for item in items],
        "start_date": start,
        "end_date": max(item["current_period_end"] for item in items),
        "proration_behavior": "none",
    }
    carried = {name: value for name, value in kept.items() if name != "trial_end"}
    second = {
        **carried,
        "items": [{"price": plan.price, "quantity": row.quantity or 1}],
        "duration": {"interval": plan.interval, "interval_count": plan.interval_count},
        "proration_behavior": "none",
    }
    return {
        "end_behavior": "release",
        "metadata": tag(catalog.product),
        "phases": [first, second],
        "proration_behavior": "none",
    }


def _release(schedule: Json) -> Call:
    return Call(Write.RELEASE, str(schedule["id"]), {})


def _is_ending(row: Subscription) -> bool:
    return row.cancel_at_period_end or row.cancel_at is not None


def _ends(row: Subscription) -> Json:
    ends = row.cancel_at or row.current_period_end
    return {"ends_at": iso(ends)} if ends else {}


def _discount(found: Json) -> Json | None:
    """A phase's discount, as a request says it."""
    named = {name: _id(found.get(name)) for name in ("discount", "promotion_code", "coupon")}
    return next(({name: id_} for name, id_ in named.items() if id_), None)


def _id(value: Any) -> str | None:
    found = value.get("id") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else None
