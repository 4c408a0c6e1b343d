"""Subscription schedules: made from a subscription, given phases, released.

A schedule made here always governs a subscription that exists. Its phases follow one another without a gap; the
next one begins at the end of the period in which the current one ends (`enter_next_phase`, which `cycle.py` calls
before it renews).
"""

from . import forms, lifecycle, prices, subscription_objects
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page
from .schedule_phases import PHASE, new_phases, phase
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
    if old["status"] in subscription_objects.ENDED:
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
            phase(
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
        fields["phases"] = new_phases(call, old, params["phases"])
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
    coming = [each for each in one["phases"] if each["start_date"] >= one["current_phase"]["end_date"]]
    if not coming:
        if one["end_behavior"] == "cancel":
            return lifecycle.end(call, subscription)
        _release(call, one)
        return call.named("subscription", subscription["id"])
    next_one = coming[0]
    wanted = wanted_items(call, next_one["items"], "items")
    data = [
        {**item, "price": each["price"], "plan": prices.plan_of(each["price"]), "quantity": each["quantity"]}
        for item, each in zip(subscription["items"]["data"], wanted, strict=False)
    ]
    rhythms = [item["price"]["recurring"] for item in (data[0], subscription["items"]["data"][0])]
    anchor = subscription["billing_cycle_anchor"] if rhythms[0] == rhythms[1] else call.now
    changed = subscription_objects.save(
        call,
        subscription,
        items={**subscription["items"], "data": data},
        billing_cycle_anchor=anchor,
        discounts=[each["discount"] for each in next_one["discounts"] if each["discount"]],
        metadata=forms.merge_metadata(subscription["metadata"], next_one["metadata"]),
    )
    now = {"start_date": next_one["start_date"], "end_date": next_one["end_date"]}
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
    emit(call, "customer.subscription.updated", subscription_objects.save(call, old, schedule=schedule), previous=old)


_CHANGES: forms.Table = {
    "default_settings": forms.anything,
    "end_behavior": forms.one_of("release", "cancel"),
    "metadata": forms.metadata,
    "phases": forms.items(forms.table(PHASE), 10),
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
