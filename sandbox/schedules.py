"""Subscription schedules: made from a subscription, given phases, released.

A schedule made here always governs a subscription that exists. Its phases follow one another without a gap; the
next one begins at the end of the period in which the current one ends (`enter_next_phase`, which `cycle.py` calls
before it renews).
"""

from typing import Any

from . import forms, lifecycle, prices
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_parameter, refused
from .events import emit
from .lists import PAGING, page
from .periods import next_end, step
from .subscription_items import wanted_items

_RUNNING = ("not_started", "active")


# The API ----------------------------------------------------------------------------------------------------------


def create(call: Call, params: Json) -> Json:
    """A schedule with one phase: the subscription as it is, until its period ends."""
    if not params.get("from_subscription"):
        raise bad_parameter("The sandbox makes schedules from subscriptions only.", "from_subscription")
    if others := sorted(set(params) - {"from_subscription"}):
        raise bad_parameter(f"You cannot set `{others[0]}` if `from_subscription` is set.", others[0])
    old = call.named("subscription", params["from_subscription"], param="from_subscription")
    if old["status"] in lifecycle.ENDED:
        raise refused("You cannot migrate a subscription that is canceled to a schedule.", param="from_subscription")
    if old["schedule"]:
        raise refused(
            f"You cannot migrate a subscription that is already attached to a schedule: {old['schedule']}.",
            param="from_subscription",
        )
    first = old["items"]["data"][0]
    start, end = first["current_period_start"], first["current_period_end"]
    one = {
        "id": call.store.new_id("sub_sched_1"),
        "object": "subscription_schedule",
        "application": None,
        "billing_mode": old["billing_mode"],
        "canceled_at": None,
        "completed_at": None,
        "created": call.now,
        "current_phase": {"start_date": start, "end_date": end},
        "customer": old["customer"],
        "customer_account": None,
        "default_settings": {
            "application_fee_percent": None,
            "automatic_tax": old["automatic_tax"],
            "billing_cycle_anchor": "automatic",
            "billing_thresholds": None,
            "collection_method": "charge_automatically",
            "default_payment_method": old["default_payment_method"],
            "description": None,
            "invoice_settings": {"account_tax_ids": None, "days_until_due": None, "issuer": {"type": "self"}},
            "on_behalf_of": None,
            "transfer_data": None,
        },
        "end_behavior": "cancel" if old["cancel_at_period_end"] else "release",
        "livemode": call.livemode,
        "metadata": {},
        "phases": [
            _phase(
                [{"price": item["price"]["id"], "quantity": item["quantity"]} for item in old["items"]["data"]],
                start,
                end,
                discounts=[{"coupon": None, "discount": id_, "promotion_code": None} for id_ in old["discounts"]],
                trial_end=old["trial_end"] if old["status"] == "trialing" else None,
            )
        ],
        "released_at": None,
        "released_subscription": None,
        "status": "active",
        "subscription": old["id"],
        "test_clock": None,
    }
    call.store.put("subscription_schedule", one)
    emit(call, "subscription_schedule.created", one)
    _attach(call, old, one["id"])
    return one


def update(call: Call, params: Json) -> Json:
    old = _running(call, params["id"], "update")
    fields: Json = {name: params[name] for name in ("end_behavior",) if params.get(name)}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    if "phases" in params:
        fields["phases"] = _new_phases(call, old, params["phases"])
    one = call.store.change("subscription_schedule", old["id"], **fields)
    if any(old[name] != value for name, value in fields.items()):
        emit(call, "subscription_schedule.updated", one, previous=old)
    return one


def release(call: Call, params: Json) -> Json:
    return _release(call, _running(call, params["id"], "release"))


# What time does ---------------------------------------------------------------------------------------------------


def enter_next_phase(call: Call, subscription: Json) -> Json:
    """The subscription as its schedule wants it from now on; the end of the last phase lets go of it."""
    one = call.find("subscription_schedule", subscription["schedule"])
    if one is None or one["status"] != "active" or one["current_phase"]["end_date"] > call.now:
        return subscription
    coming = [phase for phase in one["phases"] if phase["start_date"] >= one["current_phase"]["end_date"]]
    if not coming:
        if one["end_behavior"] == "cancel":
            return lifecycle.end(call, subscription)
        _release(call, one)
        return call.named("subscription", subscription["id"])
    phase = coming[0]
    wanted = wanted_items(call, phase["items"], "items")
    data = [
        {**item, "price": each["price"], "plan": prices.plan_of(each["price"]), "quantity": each["quantity"]}
        for item, each in zip(subscription["items"]["data"], wanted, strict=False)
    ]
    rhythms = [item["price"]["recurring"] for item in (data[0], subscription["items"]["data"][0])]
    anchor = subscription["billing_cycle_anchor"] if rhythms[0] == rhythms[1] else call.now
    changed = lifecycle.save(
        call,
        subscription,
        items={**subscription["items"], "data": data},
        billing_cycle_anchor=anchor,
        discounts=[each["discount"] for each in phase["discounts"] if each["discount"]],
        metadata=forms.merge_metadata(subscription["metadata"], phase["metadata"]),
    )
    now = {"start_date": phase["start_date"], "end_date": phase["end_date"]}
    after = call.store.change("subscription_schedule", one["id"], current_phase=now)
    emit(call, "subscription_schedule.updated", after, previous=one)
    return changed


# Its parts --------------------------------------------------------------------------------------------------------


def _running(call: Call, id: str, verb: str) -> Json:
    one = call.named("subscription_schedule", id)
    if one["status"] not in _RUNNING:
        raise refused(
            f"You cannot {verb} a subscription schedule that is currently in the `{one['status']}` status. You can only"
            f" {verb} a subscription schedule if it's in one of the following statuses: `not_started`, `active`."
        )
    return one


def _release(call: Call, old: Json) -> Json:
    subscription = call.named("subscription", old["subscription"])
    one = call.store.change(
        "subscription_schedule",
        old["id"],
        status="released",
        released_at=call.now,
        released_subscription=old["subscription"],
        subscription=None,
        current_phase=None,
    )
    emit(call, "subscription_schedule.released", one)
    _attach(call, subscription, None)
    return one


def _attach(call: Call, old: Json, schedule: str | None) -> None:
    emit(call, "customer.subscription.updated", lifecycle.save(call, old, schedule=schedule), previous=old)


def _new_phases(call: Call, old: Json, sent: list[Json]) -> list[Json]:
    """The phases as sent. The current one keeps its start and what it bills: the sandbox makes no prorations."""
    if not sent:
        raise bad_parameter("You must provide at least one phase.", "phases")
    current = old["current_phase"]
    phases: list[Json] = []
    for index, each in enumerate(sent):
        where = f"phases[{index}]"
        if not each.get("items"):
            raise missing_parameter(f"{where}[items]")
        start = each.get("start_date") if index == 0 else phases[-1]["end_date"]
        if start is None:
            raise missing_parameter(f"{where}[start_date]")
        if index == 0 and start != current["start_date"]:
            raise refused("You can not modify the start date of the current phase.", param=f"{where}[start_date]")
        if index and each.get("start_date") not in (None, start):
            raise refused("Phases must follow each other without a gap.", param=f"{where}[start_date]")
        wanted = wanted_items(call, each["items"], f"{where}[items]")
        end = _end(each, start, wanted[0]["price"]["recurring"], where)
        if end <= call.now:
            raise refused("The end of a phase must be in the future.", param=f"{where}[end_date]")
        items = [{"price": one["price"]["id"], "quantity": one["quantity"]} for one in wanted]
        given = [{"coupon": None, "discount": None, "promotion_code": None, **one} for one in each.get("discounts", [])]
        phases.append(
            _phase(
                items,
                start,
                end,
                discounts=given,
                trial_end=each.get("trial_end"),
                proration_behavior=each.get("proration_behavior") or "create_prorations",
                metadata=each.get("metadata"),
            )
        )
    old_items = [(one["price"], one["quantity"]) for one in _current(old)["items"]]
    if [(one["price"], one["quantity"]) for one in phases[0]["items"]] != old_items:
        raise refused("The sandbox does not change what the current phase bills.", param="phases[0][items]")
    return phases


def _current(old: Json) -> Json:
    start = old["current_phase"]["start_date"]
    return next(phase for phase in old["phases"] if phase["start_date"] == start)


def _end(each: Json, start: int, recurring: Json, where: str) -> int:
    if each.get("end_date") and each.get("duration"):
        raise bad_parameter("You may only specify one of these parameters: end_date, duration.", f"{where}[end_date]")
    if each.get("end_date"):
        return int(each["end_date"])
    if each.get("duration"):
        length = each["duration"]
        return step(start, {"interval": length.get("interval"), "interval_count": length.get("interval_count") or 1})
    return next_end(start, start, recurring)


def _phase(
    items: list[Json],
    start: int,
    end: int,
    *,
    discounts: list[Json],
    trial_end: int | None = None,
    proration_behavior: str = "create_prorations",
    metadata: Any = None,
) -> Json:
    return {
        "add_invoice_items": [],
        "application_fee_percent": None,
        "billing_cycle_anchor": None,
        "billing_thresholds": None,
        "collection_method": None,
        "currency": "usd",
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": discounts,
        "end_date": end,
        "invoice_settings": None,
        "items": [
            {**one, "billing_thresholds": None, "discounts": [], "metadata": {}, "plan": one["price"], "tax_rates": []}
            for one in items
        ],
        "metadata": metadata or {},
        "on_behalf_of": None,
        "proration_behavior": proration_behavior,
        "start_date": start,
        "transfer_data": None,
        "trial_end": trial_end,
    }


_PHASE: forms.Table = {
    **forms.unsupported("add_invoice_items", "application_fee_percent", "billing_thresholds", "trial", "transfer_data"),
    "automatic_tax": forms.anything,
    "billing_cycle_anchor": forms.one_of("automatic", "phase_start"),
    "collection_method": forms.one_of("charge_automatically", "send_invoice"),
    "currency": forms.text(3),
    "default_payment_method": forms.text(),
    "description": forms.text(500),
    "discounts": forms.items(forms.table({"coupon": forms.identifier, "discount": forms.identifier})),
    "duration": forms.table(
        {"interval": forms.one_of("day", "week", "month", "year"), "interval_count": forms.integer(1, 36)}
    ),
    "end_date": forms.moment,
    "items": forms.items(
        forms.table({"price": forms.identifier, "quantity": forms.integer(0), "metadata": forms.metadata}), 20
    ),
    "metadata": forms.metadata,
    "proration_behavior": forms.one_of("create_prorations", "none", "always_invoice"),
    "start_date": forms.moment,
    "trial_end": forms.moment,
}
_CHANGES: forms.Table = {
    "default_settings": forms.anything,
    "end_behavior": forms.one_of("release", "cancel"),
    "metadata": forms.metadata,
    "phases": forms.items(forms.table(_PHASE), 10),
}

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/subscription_schedules",
        {
            **_CHANGES,
            "customer": forms.absent("only from a subscription"),
            "from_subscription": forms.identifier,
            "start_date": forms.moment,
        },
        create,
    ),
    (
        "GET",
        "/v1/subscription_schedules",
        {**PAGING, "created": forms.created, "customer": forms.text()},
        lambda call, params: page(
            call, "subscription_schedule", params, "/v1/subscription_schedules", customer=params.get("customer")
        ),
    ),
    (
        "GET",
        "/v1/subscription_schedules/{id}",
        {},
        lambda call, params: call.named("subscription_schedule", params["id"]),
    ),
    (
        "POST",
        "/v1/subscription_schedules/{id}",
        {**_CHANGES, "proration_behavior": forms.one_of("create_prorations", "none", "always_invoice")},
        update,
    ),
    (
        "POST",
        "/v1/subscription_schedules/{id}/release",
        {"preserve_cancel_date": forms.boolean},
        release,
    ),
]
