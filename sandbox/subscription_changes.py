"""A subscription is changed: by the API, by a person at the Dashboard, by the buyer in the portal.

A change in the middle of a period is prorated: the unused time is given back, the rest of the period is charged. With
`create_prorations` that waits for the next invoice, with `always_invoice` it is billed now, with `none` it is left out.
A price of another interval begins a new period, which is billed now.
"""

from dataclasses import dataclass
from typing import Any

from . import cards, discounts, forms, lifecycle, payment_methods, subscription_parameters
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .paid_events import announce
from .period_lines import of_period, prorations
from .subscription_items import changed_items
from .subscription_objects import ENDED, save
from .subscription_parameters import DETAILS, ITEM, PRORATIONS, SHARED, ending, future, kept
from .subscriptions import add_pending

_OF_AN_ENDED_ONE = frozenset({"id", "metadata", "cancellation_details"})


@dataclass(frozen=True)
class Change:
    """The subscription's new fields, and the items that begin a period now, which is billed now."""

    fields: Json
    begun: frozenset[str] = frozenset()
    ends_trial: bool = False


def update(call: Call, params: Json) -> Json:
    old = call.named("subscription", params["id"])
    _allowed(old, params)
    if params.get("trial_end") == "now" and old["status"] == "trialing":
        old = lifecycle.tell_of_trial(call, old, cut_short=True)
        card = payment_methods.paying_for(call, call.named("customer", old["customer"]), old)
        if card is None and (over := lifecycle.trial_over(call, old)) is not None:
            return over
    change = _change(call, old, params)
    one = save(call, old, **change.fields)
    if one["cancel_at_period_end"]:
        one = save(call, one, cancel_at=min(item["current_period_end"] for item in one["items"]["data"]))
    one, billed = bill(call, old, one, change, params)
    if any(old.get(name) != one.get(name) for name in one if not name.startswith("_")):
        emit(call, "customer.subscription.updated", one, previous=old)
    if billed is not None:
        announce(call, billed)
    return lifecycle.tell_of_trial(call, one)


def _allowed(old: Json, params: Json) -> None:
    if old["status"] in ENDED and set(params) - _OF_AN_ENDED_ONE:
        raise refused("A canceled subscription can only update its cancellation_details and metadata.")
    if old["schedule"] and {"cancel_at", "cancel_at_period_end"} & set(params):
        raise refused(
            f"The subscription is managed by the subscription schedule `{old['schedule']}`, and updating any"
            " cancelation behavior directly is not allowed. Please update the schedule instead."
        )


def _change(call: Call, old: Json, params: Json) -> Change:
    fields = kept(call, params, old)
    if "default_payment_method" in params:
        id = params["default_payment_method"]
        customer = call.named("customer", old["customer"])
        own = payment_methods.of_customer(call, customer, id, "default_payment_method") if id else {"id": None}
        fields["default_payment_method"] = own["id"]
    if "pause_collection" in params:
        fields["pause_collection"] = _pause(call, params["pause_collection"])
    if "cancellation_details" in params:
        fields["cancellation_details"] = {**old["cancellation_details"], **(params["cancellation_details"] or {})}
    if "discounts" in params:
        found = discounts.wanted(call, params["discounts"], "discounts", old["currency"])
        fields["discounts"] = discounts.made(call, found, old["customer"], old["id"])
    begun: frozenset[str] = frozenset()
    ends_trial = False
    if params.get("items"):
        fields["items"], begun = changed_items(call, old, params["items"])
        if len(begun) == len(fields["items"]["data"]):
            fields["billing_cycle_anchor"] = call.now
    if params.get("billing_cycle_anchor") == "now" and old["status"] != "trialing":
        fields.update(lifecycle.period({**old, **fields}, call.now, call.now))
        begun = frozenset(item["id"] for item in fields["items"]["data"])
    if params.get("trial_end") is not None:
        fields.update(_trial({**old, **fields}, call, params["trial_end"]))
        ends_trial = fields["status"] == "active" and old["status"] == "trialing"
    if "cancel_at_period_end" in params or "cancel_at" in params:
        fields.update(ending(call, {**old, **fields}, params))
    return Change(fields, begun, ends_trial)


def _pause(call: Call, sent: Json | None) -> Json | None:
    if sent is None:
        return None
    if not sent.get("behavior"):
        raise bad_parameter(
            "Missing required param: pause_collection[behavior].",
            "pause_collection[behavior]",
            code="parameter_missing",
        )
    resumes_at = sent.get("resumes_at")
    if resumes_at is not None:
        future(call, resumes_at, "pause_collection[resumes_at]")
    return {"behavior": sent["behavior"], "resumes_at": resumes_at}


def _trial(old: Json, call: Call, trial_end: Any) -> Json:
    if trial_end == "now":
        ends = {"trial_end": call.now} if old["status"] == "trialing" else {}
        return {**lifecycle.period(old, call.now, call.now), **ends, "status": "active"}
    at = subscription_parameters.future(call, trial_end, "trial_end")
    fields = lifecycle.period(old, call.now, at, end=at)
    return {**fields, "trial_start": old["trial_start"] or call.now, "trial_end": at, "status": "trialing"}


def bill(call: Call, old: Json, one: Json, change: Change, params: Json) -> tuple[Json, Any]:
    """What the change costs now, or with the next invoice."""
    behavior = params.get("proration_behavior") or "create_prorations"
    at = _proration_date(call, old, params)
    prorated = behavior != "none" and old["status"] != "trialing" and "items" in change.fields
    lines = prorations(call, old, one, at=at, begun=change.begun) if prorated else []
    started = [item for item in one["items"]["data"] if change.ends_trial or item["id"] in change.begun]
    if not started and not (lines and behavior == "always_invoice"):
        add_pending(call, one, lines)
        return one, None
    card = payment_methods.paying_for(call, call.named("customer", one["customer"]), one)
    lines = [*lines, *of_period(call, one, started)]
    one, billed = lifecycle.charge_lines(call, one, lines, reason="subscription_update", method=card)
    if billed.last["status"] == "open" and params.get("payment_behavior") == "error_if_incomplete":
        error = cards.declined(str((billed.charge or {"outcome": {"reason": "generic_decline"}})["outcome"]["reason"]))
        error.keeps_changes = False
        raise error
    return lifecycle.settle(call, one, billed), billed


def resume(call: Call, params: Json) -> Json:
    """A paused one begins a period now and is billed for it: active when that is paid, else past due."""
    old = call.named("subscription", params["id"])
    if old["status"] != "paused":
        raise refused(f"You can only resume a subscription that is paused. This one is {old['status']}.")
    card = payment_methods.paying_for(call, call.named("customer", old["customer"]), old)
    one = save(call, old, **lifecycle.period(old, call.now, call.now))
    one, billed = lifecycle.charge_period(call, one, reason="subscription_update", method=card)
    one = lifecycle.mark(call, one, "active" if billed.last["status"] == "paid" else "past_due", before=old)
    announce(call, billed)
    return one


def _proration_date(call: Call, old: Json, params: Json) -> int:
    at = params.get("proration_date")
    if at is None:
        return call.now
    first = old["items"]["data"][0]
    if not first["current_period_start"] <= at <= first["current_period_end"]:
        raise bad_parameter(
            "Invalid proration_date: it must be within the current period of the subscription.", "proration_date"
        )
    return int(at)


ROUTES: list[Route] = [
    ("POST", "/v1/subscriptions/{id}/resume", {"billing_cycle_anchor": forms.one_of("now")}, resume),
    (
        "POST",
        "/v1/subscriptions/{id}",
        {
            **SHARED,
            "billing_cycle_anchor": forms.one_of("now", "unchanged"),
            "cancellation_details": DETAILS,
            "items": forms.items(forms.table({**ITEM, "id": forms.identifier, "deleted": forms.boolean}), 20),
            "pause_collection": forms.table(
                {
                    "behavior": forms.one_of("keep_as_draft", "mark_uncollectible", "void"),
                    "resumes_at": forms.moment,
                }
            ),
            "payment_behavior": forms.one_of("allow_incomplete", "error_if_incomplete"),
            "proration_behavior": PRORATIONS,
            "proration_date": forms.moment,
        },
        update,
    ),
]
