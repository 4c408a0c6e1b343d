"""The phases of a switch: Stripe's own phase, carried whole, and the next one with the plan's item exchanged. Pure.

What a phase leaves out is gone when it begins. So every field that Stripe returns is sent back, objects by their ids,
and a field that is not known here refuses the switch (SUB-82). A schedule is ours while it does what we wrote (SUB-83).
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from typing import Any

from billing.catalog import Catalog, Plan
from billing.operations.calls import Json
from billing.rules.product_tag import is_tagged, metadata_of, tag
from billing.subscriptions.stripe_fields import id_of, items_of

MARK = "onelane_next"  # in a schedule's metadata: when the next phase begins, and the digest of what we wrote in it
# What is billed once with a phase. Sent back for a phase that runs, it may be billed twice; released, never (SUB-88).
ONE_OFF = "add_invoice_items"
PAUSES = "pause_schedules"  # beside the phases: somebody planned a pause, which a release would drop
# These act when a phase begins, and are not repeated by the next one.
_AT_THE_BEGINNING = frozenset({"billing_cycle_anchor", "trial", "trial_end"})
# Each phase says these for itself.
_OF_EACH_PHASE = frozenset({"start_date", "end_date", "proration_behavior"})

Carry = Callable[[Any], Any]


class NotCarriedError(Exception):
    """Something of the subscription cannot be sent back to Stripe in a phase."""


def write_phases(schedule: Json, subscription: Json, item: Json, plan: Plan, product: str) -> Json:
    """The update of a schedule: the current phase until the plan's period ends, then one period of the next plan.

    Raises NotCarriedError.
    """
    phase = current_phase(schedule)
    first = carry(phase, metered=metered_prices(subscription))
    period_end = item["current_period_end"]
    second = exchange(first, price=id_of(item.get("price")), plan=plan, quantity=item.get("quantity"))
    return {
        "end_behavior": "release",
        "metadata": {**tag(product), MARK: _mark(period_end, second)},
        "phases": [
            {**first, "start_date": phase.get("start_date"), "end_date": period_end, "proration_behavior": "none"},
            {
                **second,
                "duration": {"interval": plan.interval, "interval_count": plan.interval_count},
                "proration_behavior": "none",
            },
        ],
        "proration_behavior": "none",
    }


def exchange(first: Json, *, price: str | None, plan: Plan, quantity: int | None) -> dict[str, Any]:
    """The phase after `first`: everything but the plan's item stays. Raises NotCarriedError."""
    items = first["items"]
    if [each["price"] for each in items].count(price) != 1:
        raise NotCarriedError("the plan's item")
    if any(each["price"] == plan.price for each in items):
        raise NotCarriedError("the other plan's price, which the subscription has already")
    counted = {} if plan.metered else {"quantity": plan.min_quantity if quantity is None else quantity}
    exchanged = [
        {**{name: each[name] for name in each if name != "quantity"}, "price": plan.price, **counted}
        if each["price"] == price
        else each
        for each in items
    ]
    kept = {name: value for name, value in first.items() if name not in _AT_THE_BEGINNING}
    return {**kept, "items": exchanged}


def current_phase(schedule: Json) -> Json:
    """The phase that runs; empty where none does."""
    start = (schedule.get("current_phase") or {}).get("start_date")
    return next((phase for phase in schedule.get("phases") or [] if phase.get("start_date") == start), {})


def is_bare(schedule: Json, subscription: Json) -> bool:
    """Whether it was made from the subscription and nothing was planned in it: to release it changes nothing."""
    ends = {item.get("current_period_end") for item in items_of(subscription)}
    phases = schedule.get("phases") or []
    return (
        not metadata_of(schedule)
        and schedule.get("end_behavior") == "release"
        and len(phases) == 1
        and phases[0].get("end_date") in ends
        and not current_phase(schedule).get(ONE_OFF)
        and not schedule.get(PAUSES)
    )


def is_ours(schedule: Json, subscription: Json, catalog: Catalog) -> bool:
    """Whether it is marked as ours and still does what we wrote: somebody may have edited it since (SUB-83).

    The phase that runs may have been edited: it holds for the subscription already, and stays when it is released.
    """
    starts, _, _ = mark = str(metadata_of(schedule).get(MARK) or "").partition(":")
    if not is_tagged(schedule, catalog.product) or not starts.isdecimal() or schedule.get("end_behavior") != "release":
        return False
    if current_phase(schedule).get(ONE_OFF) or schedule.get(PAUSES):
        return False
    later = [phase for phase in schedule.get("phases") or [] if (phase.get("start_date") or 0) >= int(starts)]
    current = schedule.get("current_phase") or {}
    if len(later) != 1 or later[0].get("start_date") != int(starts):
        return False
    if current.get("start_date") == int(starts):
        return True
    by_usage = {plan.price for plan in catalog.plans.values() if plan.metered}
    try:
        written = carry(later[0], metered=metered_prices(subscription) | by_usage)
    except NotCarriedError:
        return False
    return current.get("end_date") == int(starts) and _mark(int(starts), written) == "".join(mark)


def is_planned(schedule: Json) -> bool:
    """Whether a change is still to come in it."""
    ends = (schedule.get("current_phase") or {}).get("end_date") or 0
    return any((phase.get("start_date") or 0) >= ends for phase in schedule.get("phases") or [])


def agrees(schedule: Json, subscription: Json) -> bool:
    """Whether the phase that runs has what the subscription has: an add-on may have been added beside the schedule."""
    phase = current_phase(schedule)
    return bool(_essence(phase, phase.get("items") or []) == _essence(subscription, items_of(subscription)))


def metered_prices(subscription: Json) -> frozenset[str]:
    """The prices of items that have no quantity."""
    return frozenset(id_of(item.get("price")) or "" for item in items_of(subscription) if item.get("quantity") is None)


def carry(phase: Json, *, metered: Collection[str]) -> dict[str, Any]:
    """A phase as a request says it, without its dates. Raises NotCarriedError with what Stripe would not take back."""
    carried: dict[str, Any] = _table(_PHASE)({name: each for name, each in phase.items() if name not in _OF_EACH_PHASE})
    for each in carried.get("items", []):
        if each["price"] in metered:
            each.pop("quantity", None)
    return carried


def _essence(thing: Json, items: list[Json]) -> Any:
    """What a phase and a subscription both have, in one form."""

    def discounts(of: Json) -> list[str]:
        found = [id_of(one.get("discount")) if "discount" in one else id_of(one)
                 for one in map(_as_mapping, of.get("discounts") or [])]  # fmt: skip
        return sorted(one or "" for one in found)

    each = [(id_of(item.get("price")), item.get("quantity"), sorted(map(_text, item.get("tax_rates") or [])),
             discounts(item)) for item in items]  # fmt: skip
    return sorted(map(str, each)), discounts(thing), sorted(map(_text, thing.get("default_tax_rates") or []))


def _as_mapping(value: Any) -> Json:
    return value if isinstance(value, Mapping) else {"id": value}


def _text(value: Any) -> str:
    return id_of(value) or ""


def _mark(starts: int, phase: Json) -> str:
    """When the phase begins, and a digest of what it says."""
    said = {name: value for name, value in phase.items() if name != "currency"}
    if not (said.get("automatic_tax") or {}).get("enabled"):
        said.pop("automatic_tax", None)  # Stripe shows it, sent or not
    said["items"] = sorted(({**each} for each in phase["items"]), key=lambda each: str(each["price"]))
    return f"{starts}:{hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:32]}"


# --- what Stripe returns, and how it is sent back


def _is_empty(value: Any) -> bool:
    return value is None or (isinstance(value, (str, list, Mapping)) and not value)


def _as_it_is(value: Any) -> Any:
    return value


def _each(how: Carry) -> Carry:
    return lambda values: [how(each) for each in values]


def _discount(found: Any) -> dict[str, str]:
    """One that is redeemed stays itself; a coupon is named only where it is not redeemed yet."""
    for name in ("discount", "promotion_code", "coupon"):
        if id_ := id_of(found.get(name)):
            return {name: id_}
    raise NotCarriedError("a discount")


def _table(fields: Mapping[str, Carry | None]) -> Carry:
    """An object with these fields; None is for what Stripe only shows. Raises NotCarriedError for any other field."""

    def carried(value: Mapping[str, Any]) -> dict[str, Any]:
        if unknown := sorted(name for name, each in value.items() if name not in fields and not _is_empty(each)):
            raise NotCarriedError(unknown[0])
        return {name: how(value[name]) for name, how in fields.items() if how and not _is_empty(value.get(name))}

    return carried


_ACCOUNT = _table({"type": _as_it_is, "account": id_of})
_ITEM = _table(
    {
        "billing_thresholds": _as_it_is,
        "discounts": _each(_discount),
        "metadata": _as_it_is,
        "plan": None,  # the price under its old name
        "price": id_of,
        "quantity": _as_it_is,
        "tax_rates": _each(id_of),
    }
)
_PHASE: Mapping[str, Carry | None] = {
    "application_fee_percent": _as_it_is,
    "automatic_tax": _table({"disabled_reason": None, "enabled": _as_it_is, "liability": _ACCOUNT}),
    "billing_cycle_anchor": _as_it_is,
    "billing_thresholds": _as_it_is,
    "collection_method": _as_it_is,
    "currency": _as_it_is,
    "default_payment_method": id_of,
    "default_tax_rates": _each(id_of),
    "description": _as_it_is,
    "discounts": _each(_discount),
    "invoice_settings": _table(
        {
            "account_tax_ids": _each(id_of),
            "custom_fields": _as_it_is,
            "days_until_due": _as_it_is,
            "description": _as_it_is,
            "footer": _as_it_is,
            "issuer": _ACCOUNT,
        }
    ),
    "items": _each(_ITEM),
    "metadata": _as_it_is,
    "on_behalf_of": id_of,
    "transfer_data": _table({"amount_percent": _as_it_is, "destination": id_of}),
    "trial": _as_it_is,
    "trial_end": _as_it_is,
}
