"""Subscriptions made without Checkout, read, listed and ended. `subscription_changes.py` changes them, `cycle.py` has
what time does to them.

Periods live on `items.data[]`. The default list leaves out canceled ones.
"""

from typing import Any

from . import (
    balances,
    cards,
    clock_limits,
    discounts,
    forms,
    invoice_items,
    lifecycle,
    payment_methods,
    subscription_objects,
)
from .calls import Call, Route
from .errors import Json, missing_object, refused
from .events import emit
from .invoices import Billed
from .lists import PAGING, page, part
from .paid_events import announce
from .period_lines import prorations
from .periods import first_share
from .subscription_items import check_currency, check_rhythms, later_anchor, wanted_items
from .subscription_objects import ENDED, STATUSES, save
from .subscription_parameters import BILLING_MODE, DETAILS, ITEM, SHARED, ending, kept, trial_end

_NO_CARD = (
    "This customer has no attached payment source or default payment method. Please consider adding a default payment"
    " method. For more information, visit"
    " https://stripe.com/docs/billing/subscriptions/payment-methods-setting#payment-method-priority."
)


def create(call: Call, params: Json) -> Json:
    forms.require(params, "customer", "items")
    if balances.alive(call, params["customer"])["test_clock"]:
        clock_limits.check_subscriptions(call, params["customer"])
    return made(call, params)


def made(call: Call, params: Json, *, scheduled: bool = False) -> Json:
    """What is due now is charged to the subscription's card, or else the customer's.

    Without either it is refused, unless a schedule begins it (`scheduled`): then it is past due.
    """
    customer = balances.alive(call, params["customer"])
    wanted = wanted_items(call, params["items"], "items")
    currency = wanted[0]["price"]["currency"]
    check_currency(wanted[0]["price"], params.get("currency"), "items[0][price]")
    balances.check_currency(customer, currency)
    ends_at = trial_end(call, params)
    anchor = later_anchor(call, params, wanted[0]["price"], "billing_cycle_anchor")
    share = first_share(
        call.now,
        wanted[0]["price"]["recurring"],
        trial_end=ends_at,
        anchor=anchor,
        prorated=params.get("proration_behavior") != "none",
    )
    one = subscription_objects.new(
        call,
        customer,
        wanted,
        trial_end=ends_at,
        anchor=anchor,
        found=discounts.wanted(call, params.get("discounts"), "discounts", currency),
        default_payment_method=_own_card(call, customer, params),
        billing_mode=_billing_mode(params, wanted),
    )
    one = save(call, one, **kept(call, params, one))
    if params.get("cancel_at_period_end") or params.get("cancel_at"):
        one = save(call, one, **ending(call, one, params))
    behavior = params.get("payment_behavior") or "allow_incomplete"
    one, billed = lifecycle.charge_period(
        call,
        one,
        reason="subscription_create",
        method=payment_methods.paying_for(call, customer, one),
        outcome="open" if behavior == "default_incomplete" else "try",
        share=share,
    )
    if billed.last["status"] == "open" and one["collection_method"] == "charge_automatically":
        late = scheduled and billed.intent is None
        one = lifecycle.settle(call, one, billed) if late else _incomplete(call, one, billed, behavior)
    emit(call, "customer.subscription.created", one)
    announce(call, billed)
    return lifecycle.tell_of_trial(call, one)


def _own_card(call: Call, customer: Json, params: Json) -> str | None:
    id = params.get("default_payment_method")
    return payment_methods.of_customer(call, customer, id, "default_payment_method")["id"] if id else None


def _billing_mode(params: Json, wanted: list[Json]) -> Json | None:
    mode = params.get("billing_mode") or {}
    if mode.get("type") != "classic":
        return None
    check_rhythms([each["price"] for each in wanted], mode, "items")
    return {"flexible": None, "type": "classic"}


def _incomplete(call: Call, one: Json, billed: Billed, behavior: str) -> Json:
    """The first payment did not come: refused without a card, and where the caller asked for that."""
    if behavior != "default_incomplete":
        if billed.intent is None:
            raise refused(_NO_CARD, code="resource_missing")
        if behavior == "error_if_incomplete":
            if billed.charge is None:
                raise cards.asked("subscription_payment_intent_requires_action", "subscription")
            error = cards.declined(str(billed.charge["outcome"]["reason"]))
            error.keeps_changes = False
            raise error
    return save(call, one, status="incomplete")


def cancel(call: Call, params: Json) -> Json:
    old = call.named("subscription", params["id"])
    if old["status"] in ENDED:
        raise missing_object("subscription", old["id"])
    return canceled(call, old, params)


def canceled(call: Call, old: Json, params: Json) -> Json:
    """Ended now, the unused time given back (`prorate`) and what waits billed (`invoice_now`) where asked."""
    billed = None
    if params.get("prorate"):
        none_left = {**old, "items": {**old["items"], "data": []}}
        add_pending(call, old, prorations(call, old, none_left, at=call.now))
    if params.get("invoice_now") and invoice_items.waiting(call, old["customer"], old["id"]):
        card = payment_methods.paying_for(call, call.named("customer", old["customer"]), old)
        old, billed = lifecycle.charge_lines(call, old, [], reason="subscription_cycle", method=card)
    details = {**(params.get("cancellation_details") or {}), "reason": "cancellation_requested"}
    one = lifecycle.end(call, old, **details)
    if billed is not None:
        announce(call, billed)
    return one


def add_pending(call: Call, subscription: Json, lines: list[Any]) -> None:
    """Prorations that wait for the next invoice."""
    for line in lines:
        invoice_items.pending(
            call,
            subscription["customer"],
            subscription["id"],
            line.amount,
            subscription["currency"],
            price=line.price,
            quantity=line.quantity,
            start=line.start,
            end=line.end,
            description=line.description,
            proration=True,
            rates=line.tax_rates,
        )


def list_subscriptions(call: Call, params: Json) -> Json:
    status, price, clock = params.get("status"), params.get("price"), params.get("test_clock")
    method = params.get("collection_method")

    def keep(one: Json) -> Any:
        if price is not None and all(item["price"]["id"] != price for item in one["items"]["data"]):
            return False
        if method not in (None, one["collection_method"]):
            return False
        if one["test_clock"] != clock and (clock or not params.get("customer")):
            return False  # those of a test clock are listed where the clock or the customer is named
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


def list_items(call: Call, params: Json) -> Json:
    forms.require(params, "subscription")
    one = call.named("subscription", params["subscription"], param="subscription")
    return part(one["items"]["data"], params, "/v1/subscription_items", noun="subscription item")


ROUTES: list[Route] = [
    ("GET", "/v1/subscription_items", {**PAGING, "subscription": forms.text()}, list_items),
    (
        "POST",
        "/v1/subscriptions",
        {
            **SHARED,
            "billing_cycle_anchor": forms.moment,
            "billing_mode": BILLING_MODE,
            "currency": forms.text(3),
            "customer": forms.identifier,
            "items": forms.items(forms.table(ITEM), 20),
            "payment_behavior": forms.one_of("allow_incomplete", "default_incomplete", "error_if_incomplete"),
            "trial_period_days": forms.integer(0, 730),
        },
        create,
    ),
    (
        "GET",
        "/v1/subscriptions",
        {
            **PAGING,
            "collection_method": forms.one_of("charge_automatically", "send_invoice"),
            "created": forms.created,
            "customer": forms.text(),
            "price": forms.text(),
            "status": forms.one_of(*STATUSES, "all", "ended"),
            "test_clock": forms.text(),
        },
        list_subscriptions,
    ),
    ("GET", "/v1/subscriptions/{id}", {}, lambda call, params: call.named("subscription", params["id"])),
    (
        "DELETE",
        "/v1/subscriptions/{id}",
        {"cancellation_details": DETAILS, "invoice_now": forms.boolean, "prorate": forms.boolean},
        cancel,
    ),
]
