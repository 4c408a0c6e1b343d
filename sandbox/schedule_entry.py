"""A phase begins: the subscription becomes what the phase says, at a period's end or in the middle of one.

What a phase does not say comes from the schedule's default settings, else stays. Items, discounts and tax rates are the
phase's alone: what it leaves out is gone.
"""

from . import discounts, forms, invoice_items, lifecycle, prices, subscription_objects
from .amounts import of_price
from .calls import Call
from .errors import Json
from .schedule_phases import KEPT
from .subscription_changes import Change, bill
from .subscription_items import rhythm, wanted_items


def enter(call: Call, subscription: Json, phase: Json, defaults: Json) -> Json:
    """The subscription in this phase; the caller announces it. In the middle of a period the change is prorated."""
    items, begun = _items(call, subscription, phase)
    fields: Json = {"items": {**subscription["items"], "data": items}, **_terms(phase, defaults)}
    mid_period = all(item["current_period_end"] > call.now for item in subscription["items"]["data"])
    if begun or phase["billing_cycle_anchor"] == "phase_start":
        fields["billing_cycle_anchor"] = call.now
    found = [
        {"coupon": call.named("coupon", each["coupon"], param="phases")}
        if each["coupon"]
        else {"discount": call.named("discount", each["discount"], param="phases")}
        for each in phase["discounts"]
        if each["coupon"] or each["discount"]
    ]
    fields["discounts"] = discounts.made(call, found, subscription["customer"], subscription["id"])
    fields["default_tax_rates"] = phase["default_tax_rates"]
    fields["metadata"] = forms.merge_metadata(subscription["metadata"], phase["metadata"])
    if phase["trial_end"] and phase["trial_end"] > call.now:
        moved = lifecycle.period({**subscription, **fields}, call.now, phase["trial_end"], end=phase["trial_end"])
        fields |= {**moved, "status": "trialing", "trial_start": call.now, "trial_end": phase["trial_end"]}
    if mid_period and begun:
        fields["items"] = {
            **fields["items"],
            "data": [subscription_objects.started(call, item) if item["id"] in begun else item for item in items],
        }
    one = subscription_objects.save(call, subscription, **fields)
    for each in phase["add_invoice_items"]:
        _bill_once(call, one, phase, each)
    if mid_period:
        change = Change(fields, begun)
        one, _ = bill(call, subscription, one, change, {"proration_behavior": phase["proration_behavior"]})
    return one


def _bill_once(call: Call, subscription: Json, phase: Json, each: Json) -> None:
    """With the next invoice of this phase."""
    price = call.named("price", each["price"])
    invoice_items.pending(
        call,
        subscription["customer"],
        subscription["id"],
        of_price(price, each["quantity"]),
        subscription["currency"],
        price=price,
        quantity=each["quantity"],
        start=phase["start_date"],
        end=phase["end_date"],
        description=None,
        metadata=each["metadata"],
    )


def _terms(phase: Json, defaults: Json) -> Json:
    fields = {name: phase[name] or defaults.get(name) for name in KEPT}
    settings = phase["invoice_settings"] or {}
    if settings.get("days_until_due"):
        fields["days_until_due"] = settings["days_until_due"]
    if "automatic_tax" in phase:
        fields["automatic_tax"] = phase["automatic_tax"]
    return {name: value for name, value in fields.items() if value is not None}


def _items(call: Call, subscription: Json, phase: Json) -> tuple[list[Json], frozenset[str]]:
    """The items of the phase: one with the same price stays the same, another takes the place of one that goes."""
    sent = [
        {
            **{name: each[name] for name in ("price", "quantity", "metadata") if each.get(name) is not None},
            "discounts": [
                {name: one[name] for name in ("coupon", "discount") if one[name]} for one in each["discounts"]
            ],
            "tax_rates": [rate["id"] for rate in each["tax_rates"]],
        }
        for each in phase["items"]
    ]
    wanted = wanted_items(call, sent, "phases[items]")
    old = subscription["items"]["data"]
    same = {item["price"]["id"]: item for item in old}
    free = [item for item in old if item["price"]["id"] not in {each["price"]["id"] for each in wanted}]
    items, begun = [], set()
    for each in wanted:
        item = same.get(each["price"]["id"]) or (free.pop(0) if free else None)
        if item is None:
            first = old[0]
            start, end = first["current_period_start"], first["current_period_end"]
            item = subscription_objects.item(call, subscription["id"], subscription["customer"], each, start, end)
            items.append(item)
        else:
            items.append(_became(call, subscription, item, each))
        if rhythm(each["price"]) != rhythm((item if item in old else old[0])["price"]):
            begun.add(items[-1]["id"])
    return items, frozenset(begun)


def _became(call: Call, subscription: Json, item: Json, wanted: Json) -> Json:
    kept = {name: value for name, value in item.items() if name != "quantity"}
    return {
        **kept,
        "discounts": discounts.made(
            call, wanted["discounts"], subscription["customer"], subscription["id"], item["id"]
        ),
        "metadata": forms.merge_metadata({}, wanted["metadata"]),
        "plan": prices.plan_of(wanted["price"]),
        "price": wanted["price"],
        **({} if wanted["quantity"] is None else {"quantity": wanted["quantity"]}),
        "tax_rates": wanted["tax_rates"],
    }
