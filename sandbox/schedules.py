"""Subscription schedules: made from a subscription or for a customer, given phases, released, canceled, over.

Its phases follow one another without a gap. `schedule_course` has what becomes of it.
"""

from . import balances, clock_limits, forms, schedule_entry, subscription_objects, subscriptions
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .lists import PAGING, page
from .schedule_course import attach, begin, dates, governed, let_go, told_at
from .schedule_objects import new_schedule
from .schedule_phases import KEPT, PHASE, new_phases, of_subscription
from .subscription_parameters import BILLING_MODE

_RUNNING = ("not_started", "active")


# The API ----------------------------------------------------------------------------------------------------------


def create(call: Call, params: Json) -> Json:
    """From a subscription as it is, or with phases for a customer: then it makes the subscription when it begins."""
    if params.get("from_subscription"):
        return _from_subscription(call, params)
    forms.require(params, "customer", "phases")
    customer = balances.alive(call, params["customer"])
    if customer["test_clock"]:
        clock_limits.check_subscriptions(call, customer["id"])
    sent = params.get("start_date")
    start = call.now if sent in (None, "now") else int(sent)
    if start < call.now:
        raise bad_parameter("Invalid start_date: the sandbox does not backdate.", "start_date")
    phases = new_phases(call, params["phases"], start=start, current=None, billing_mode=params.get("billing_mode"))
    one = new_schedule(call, customer["id"], phases, params)
    call.store.put("subscription_schedule", {**one, "_due": float(start)})
    emit(call, "subscription_schedule.created", one)
    return begin(call, one) if start <= call.now else one


def _from_subscription(call: Call, params: Json) -> Json:
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
    phase = of_subscription(old)
    given = {"end_behavior": "cancel" if old["cancel_at"] else "release", "billing_mode": old["billing_mode"]}
    one = new_schedule(call, old["customer"], [phase], given)
    one |= {"status": "active", "subscription": old["id"], "current_phase": dates(phase)}
    one["default_settings"] |= {name: old[name] for name in ("automatic_tax", *KEPT)}
    call.store.put("subscription_schedule", {**one, "_due": told_at(call, one["phases"])})
    emit(call, "subscription_schedule.created", one)
    attach(call, old, one)
    return one


def update(call: Call, params: Json) -> Json:
    old = _running(call, params["id"], "update")
    fields: Json = {name: params[name] for name in ("end_behavior",) if params.get(name)}
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    if params.get("default_settings"):
        fields["default_settings"] = {**old["default_settings"], **params["default_settings"]}
    if "phases" in params:
        start = (old["current_phase"] or old["phases"][0])["start_date"]
        fields["phases"] = new_phases(
            call,
            params["phases"],
            start=start,
            current=old["current_phase"],
            currency=old["phases"][0]["currency"],
            billing_mode=old["billing_mode"],
        )
        if old["current_phase"]:
            fields["current_phase"] = dates(fields["phases"][0])
            fields["_due"] = told_at(call, fields["phases"])
    one = call.store.change("subscription_schedule", old["id"], **fields)
    if any(old[name] != value for name, value in fields.items()):
        emit(call, "subscription_schedule.updated", one, previous=old)
    subscription = call.find("subscription", one["subscription"])
    if subscription is not None:
        _apply(call, subscription, one, old, params)
    return one


def _apply(call: Call, subscription: Json, one: Json, old: Json, params: Json) -> None:
    """What the current phase now says holds for the subscription at once; a changed end is where it ends."""
    after = subscription
    before, now = (_said(_current(each)) for each in (old, one))
    if before != now:
        phase = {**_current(one), "proration_behavior": params.get("proration_behavior") or "create_prorations"}
        after = schedule_entry.enter(call, after, phase, one["default_settings"])
    after = subscription_objects.save(call, after, **governed(one))
    if any(after[name] != subscription.get(name) for name in after if not name.startswith("_")):
        emit(call, "customer.subscription.updated", after, previous=subscription)


def _said(phase: Json) -> Json:
    return {name: value for name, value in phase.items() if name not in ("end_date", "proration_behavior")}


def release(call: Call, params: Json) -> Json:
    return let_go(call, _running(call, params["id"], "release"), keep=bool(params.get("preserve_cancel_date")))


def cancel(call: Call, params: Json) -> Json:
    old = _running(call, params["id"], "cancel")
    subscription = call.find("subscription", old["subscription"])
    if subscription is not None and subscription["status"] not in subscription_objects.ENDED:
        asked = {name: params.get(name) is not False for name in ("invoice_now", "prorate")}
        subscriptions.canceled(call, subscription, asked)  # its schedule ends with it
        return call.named("subscription_schedule", old["id"])
    one = call.store.change("subscription_schedule", old["id"], status="canceled", canceled_at=call.now, _due=None)
    emit(call, "subscription_schedule.canceled", one)
    emit(call, "subscription_schedule.aborted", one)  # as Stripe's CLI expects of one that never began
    return one


# Its parts --------------------------------------------------------------------------------------------------------


def _current(schedule: Json) -> Json:
    start = (schedule["current_phase"] or schedule["phases"][0])["start_date"]
    return next(one for one in schedule["phases"] if one["start_date"] == start)


def _running(call: Call, id: str, verb: str) -> Json:
    one = call.named("subscription_schedule", id)
    if one["status"] not in _RUNNING:
        raise refused(
            f"You cannot {verb} a subscription schedule that is currently in the `{one['status']}` status. You can only"
            f" {verb} a subscription schedule if it's in one of the following statuses: `not_started`, `active`."
        )
    return one


_SETTINGS = forms.table({name: PHASE[name] for name in (*KEPT, "automatic_tax", "billing_cycle_anchor")})
_CHANGES: forms.Table = {
    "default_settings": _SETTINGS,
    "end_behavior": forms.one_of("release", "cancel"),
    "metadata": forms.metadata,
    "phases": forms.items(forms.table(PHASE), 10),
}
_ONE = "/v1/subscription_schedules/{id}"

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/subscription_schedules",
        {
            **_CHANGES,
            "phases": forms.items(
                # One-off items are served where there is a subscription that they are billed to.
                forms.table({name: PHASE[name] for name in PHASE if name not in ("start_date", "add_invoice_items")}),
                10,
            ),
            "billing_mode": BILLING_MODE,
            "customer": forms.identifier,
            "from_subscription": forms.identifier,
            "start_date": forms.either("now", forms.moment),
        },
        create,
    ),
    (
        "GET",
        "/v1/subscription_schedules",
        {**PAGING, "created": forms.created, "customer": forms.text(), "scheduled": forms.boolean},
        lambda call, params: page(
            call,
            "subscription_schedule",
            params,
            "/v1/subscription_schedules",
            customer=params.get("customer"),
            keep=lambda one: not params.get("scheduled") or one["status"] == "not_started",
        ),
    ),
    ("GET", _ONE, {}, lambda call, params: call.named("subscription_schedule", params["id"])),
    ("POST", _ONE, {**_CHANGES, "proration_behavior": PHASE["proration_behavior"]}, update),
    ("POST", f"{_ONE}/cancel", {"invoice_now": forms.boolean, "prorate": forms.boolean}, cancel),
    ("POST", f"{_ONE}/release", {"preserve_cancel_date": forms.boolean}, release),
]
