"""Subscriptions: made by a Checkout or directly, changed, cancelled, listed. `cycle.py` has what time does to them.

Periods live on `items.data[]`. The default list leaves out canceled ones. The sandbox makes no prorations: a change of
price within the same interval bills nothing, another interval starts a new period and bills it in full.
"""

from typing import Any

from . import coupons, customers, forms, lifecycle, subscription_objects
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_object, refused
from .events import emit
from .lists import PAGING, page
from .paid_events import announce
from .payment_objects import new_card
from .periods import first_share
from .subscription_items import changed_items, later_anchor, wanted_items
from .subscription_objects import ENDED, STATUSES, new_discount, save
from .subscription_parameters import DETAILS, ITEM, SHARED


def create(call: Call, params: Json) -> Json:
    """A subscription made without Checkout. A customer without a card is given one, so that it can be paid."""
    forms.require(params, "customer", "items")
    customer = customers.alive(call, params["customer"])
    wanted = wanted_items(call, params["items"], "items")
    coupon = _coupon(call, params.get("discounts"))
    trial_end = _trial_end(call, params)
    share = first_share(
        call.now,
        wanted[0]["price"]["recurring"],
        trial_end=trial_end,
        anchor=later_anchor(call, params, wanted[0]["price"], "billing_cycle_anchor"),
        prorated=params.get("proration_behavior") != "none",
    )
    waits = params.get("payment_behavior") == "default_incomplete" and share > 0
    method = _card_of(call, customer) or new_card(call, customer)
    one = subscription_objects.new(
        call,
        customer,
        wanted,
        metadata=params.get("metadata"),
        description=params.get("description"),
        trial_end=trial_end,
        anchor=params.get("billing_cycle_anchor"),
        coupon=coupon,
        method=method,
        status="incomplete" if waits else None,
        automatic_tax=bool((params.get("automatic_tax") or {}).get("enabled")),
    )
    if params.get("cancel_at_period_end") or params.get("cancel_at"):
        one = save(call, one, **_ending(call, one, params))
    one, billed = lifecycle.charge_period(
        call,
        one,
        reason="subscription_create",
        method=method,
        outcome="open" if waits else "paid",
        share=share,
    )
    emit(call, "customer.subscription.created", one)
    announce(call, billed)
    return one


def update(call: Call, params: Json) -> Json:
    old = call.named("subscription", params["id"])
    if old["status"] in ENDED and set(params) - {"id", "metadata", "cancellation_details", "expand"}:
        raise refused("A canceled subscription can only update its cancellation_details and metadata.")
    if old["schedule"] and {"cancel_at", "cancel_at_period_end"} & set(params):
        raise refused(
            f"The subscription is managed by the subscription schedule `{old['schedule']}`, and updating any"
            " cancelation behavior directly is not allowed. Please update the schedule instead."
        )
    fields: Json = {
        name: params[name]
        for name in ("description", "default_payment_method", "pause_collection", "collection_method")
        if name in params
    }
    if "metadata" in params:
        fields["metadata"] = forms.merge_metadata(old["metadata"], params["metadata"])
    if "cancellation_details" in params:
        fields["cancellation_details"] = {
            **old["cancellation_details"],
            **(params["cancellation_details"] or {}),
        }
    if "discounts" in params:
        coupon = _coupon(call, params["discounts"])
        fields["discounts"] = [new_discount(call, coupon, old["customer"], old["id"])["id"]] if coupon else []
    if "cancel_at_period_end" in params or "cancel_at" in params:
        fields.update(_ending(call, old, params))
    if "automatic_tax" in params:
        fields["automatic_tax"] = {**old["automatic_tax"], **(params["automatic_tax"] or {})}
    rebill = False
    if "trial_end" in params and params["trial_end"] is not None:
        fields.update(_new_trial(call, old, params["trial_end"]))
        rebill = fields["status"] == "active" and old["status"] == "trialing"
    if params.get("items"):
        fields["items"], restarted = changed_items(call, old, params["items"])
        if restarted and old["status"] != "trialing":
            rebill = True
            fields["billing_cycle_anchor"] = call.now
    one = save(call, old, **fields)
    billed = None
    if rebill:
        method = call.find("payment_method", one["default_payment_method"])
        one, billed = lifecycle.charge_period(call, one, reason="subscription_update", method=method)
    if any(old.get(name) != one.get(name) for name in one if not name.startswith("_")):
        emit(call, "customer.subscription.updated", one, previous=old)
    if billed is not None:
        announce(call, billed)
    return one


def cancel(call: Call, params: Json) -> Json:
    old = call.named("subscription", params["id"])
    if old["status"] in ENDED:
        raise missing_object("subscription", old["id"])
    details = {**(params.get("cancellation_details") or {}), "reason": "cancellation_requested"}
    return lifecycle.end(call, old, **details)


def list_subscriptions(call: Call, params: Json) -> Json:
    status, price = params.get("status"), params.get("price")

    def keep(one: Json) -> Any:
        if price is not None and all(item["price"]["id"] != price for item in one["items"]["data"]):
            return False
        match status:
            case None:
                return one["status"] != "canceled"
            case "all":
                return True
            case "ended":
                return one["status"] in ENDED
            case _:
                return one["status"] == status

    return page(call, "subscription", params, "/v1/subscriptions", customer=params.get("customer"), keep=keep)


def _coupon(call: Call, discounts: list[Json] | None) -> Json | None:
    for index, each in enumerate(discounts or []):
        if each.get("coupon"):
            return coupons.redeemable(call, each["coupon"], f"discounts[{index}][coupon]")
    return None


def _card_of(call: Call, customer: Json) -> Json | None:
    return next(call.store.newest_first("payment_method", customer=customer["id"]), None)


def _trial_end(call: Call, params: Json) -> int | None:
    if params.get("trial_end") == "now":
        return None
    if params.get("trial_end"):
        return int(params["trial_end"])
    days = params.get("trial_period_days")
    return call.now + days * 86400 if days else None


def _ending(call: Call, old: Json, params: Json) -> Json:
    """`cancel_at_period_end` and `cancel_at` say the same in two ways; unsetting either takes the cancellation back."""
    if params.get("cancel_at_period_end") and params.get("cancel_at"):
        raise bad_parameter(
            "You may only specify one of these parameters: cancel_at, cancel_at_period_end.", "cancel_at"
        )
    period_end = max(item["current_period_end"] for item in old["items"]["data"])
    if params.get("cancel_at_period_end"):
        at: int | None = period_end
    elif params.get("cancel_at"):
        at = params["cancel_at"]
        if at <= call.now:
            raise bad_parameter("The `cancel_at` timestamp must be in the future.", "cancel_at")
    else:
        at = None
    return {
        "cancel_at": at,
        "cancel_at_period_end": bool(params.get("cancel_at_period_end")),
        "canceled_at": call.now if at else None,
        "cancellation_details": {
            **old["cancellation_details"],
            "reason": "cancellation_requested" if at else None,
        },
    }


def _new_trial(call: Call, old: Json, trial_end: Any) -> Json:
    if trial_end == "now" or trial_end <= call.now:
        ends = {"trial_end": call.now} if old["status"] == "trialing" else {}
        return {**lifecycle.period(old, call.now, call.now), **ends, "status": "active"}
    fields = lifecycle.period(old, call.now, trial_end, end=trial_end)
    return {**fields, "trial_start": old["trial_start"] or call.now, "trial_end": trial_end, "status": "trialing"}


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/subscriptions",
        {
            **SHARED,
            "billing_cycle_anchor": forms.moment,
            "currency": forms.text(3),
            "customer": forms.identifier,
            "items": forms.items(forms.table(ITEM), 20),
            "trial_period_days": forms.integer(0, 730),
        },
        create,
    ),
    (
        "GET",
        "/v1/subscriptions",
        {
            **PAGING,
            "created": forms.created,
            "customer": forms.text(),
            "price": forms.text(),
            "status": forms.one_of(*STATUSES, "all", "ended"),
        },
        list_subscriptions,
    ),
    ("GET", "/v1/subscriptions/{id}", {}, lambda call, params: call.named("subscription", params["id"])),
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
            "proration_date": forms.moment,
        },
        update,
    ),
    (
        "DELETE",
        "/v1/subscriptions/{id}",
        {"cancellation_details": DETAILS, "invoice_now": forms.boolean, "prorate": forms.boolean},
        cancel,
    ),
]
