"""Payment intents made by hand: an amount is charged to a card once, without an invoice.

A test card's token makes a card that nobody keeps, unless `setup_future_usage` attaches it to the customer.
"""

from . import balances, cards, forms
from .calls import Call, Route
from .errors import Json, bad_parameter, refused
from .events import emit
from .intent_objects import SHIPPING, USAGE, ask_for_authentication, new_intent
from .paid_events import announce_charge
from .payment_methods import one_off
from .payment_objects import charge

_CONFIRMABLE = ("requires_payment_method", "requires_confirmation", "requires_action")


def create(call: Call, params: Json) -> Json:
    forms.require(params, "amount", "currency")
    customer = balances.alive(call, params["customer"]) if params.get("customer") else None
    one = new_intent(
        call,
        amount=params["amount"],
        currency=params["currency"].lower(),
        customer=customer["id"] if customer else None,
        description=params.get("description"),
        metadata=forms.merge_metadata({}, params.get("metadata")),
        setup_future_usage=params.get("setup_future_usage"),
        shipping=params.get("shipping"),
    )
    emit(call, "payment_intent.created", one)
    if params.get("payment_method"):
        method = one_off(call, customer, params["payment_method"])
        fields = {"payment_method": method["id"], "status": "requires_confirmation"}
        one = call.store.change("payment_intent", one["id"], **fields)
    return _confirmed(call, one) if params.get("confirm") else one


def confirm(call: Call, params: Json) -> Json:
    one = _in(call, params["id"], "confirm")
    if params.get("payment_method"):
        method = one_off(call, call.find("customer", one["customer"]), params["payment_method"])
        one = call.store.change("payment_intent", one["id"], payment_method=method["id"])
    return _confirmed(call, one)


def _confirmed(call: Call, one: Json) -> Json:
    method = call.find("payment_method", one["payment_method"])
    if method is None:
        raise bad_parameter(
            "You cannot confirm this PaymentIntent because it's missing a payment method. You can either update"
            " the PaymentIntent with a payment method and then confirm it again, or confirm it again directly with a"
            " payment method.",
            "payment_method",
            code="payment_intent_unexpected_state",
        )
    if cards.behind(method).asks:
        fields = {"status": "requires_action", "next_action": ask_for_authentication(call.base_url, one)}
        one = call.store.change("payment_intent", one["id"], **fields)
        emit(call, "payment_intent.requires_action", one)
        return one
    made, one = charge(call, one, method)
    announce_charge(call, made)
    if made["status"] == "failed":
        emit(call, "payment_intent.payment_failed", one)
        raise cards.declined(str(made["outcome"]["reason"]), intent=one, charge=made["id"])
    if one["setup_future_usage"] and one["customer"] and method["customer"] is None:
        method = call.store.change("payment_method", method["id"], customer=one["customer"])
        emit(call, "payment_method.attached", method)
    emit(call, "payment_intent.succeeded", one)
    return one


def cancel(call: Call, params: Json) -> Json:
    old = _in(call, params["id"], "cancel")
    if any(one["payment"]["payment_intent"] == old["id"] for one in call.store.all("invoice_payment")):
        raise refused("This PaymentIntent belongs to an invoice; void the invoice to cancel it.")
    reason = params.get("cancellation_reason")
    fields = {"status": "canceled", "canceled_at": call.wall, "cancellation_reason": reason, "next_action": None}
    one = call.store.change("payment_intent", old["id"], **fields)
    emit(call, "payment_intent.canceled", one)
    return one


def _in(call: Call, id: str, verb: str) -> Json:
    one = call.named("payment_intent", id)
    if one["status"] not in _CONFIRMABLE:
        raise refused(
            f"You cannot {verb} this PaymentIntent because it has a status of {one['status']}. Only a PaymentIntent"
            f" with one of the following statuses may be {verb}ed: {', '.join(_CONFIRMABLE)}.",
            code="payment_intent_unexpected_state",
        )
    return one


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/payment_intents",
        {
            "amount": forms.integer(1, 99_999_999),
            "confirm": forms.boolean,
            "currency": forms.text(3),
            "customer": forms.identifier,
            "description": forms.text(1000),
            "metadata": forms.metadata,
            "payment_method": forms.identifier,
            "setup_future_usage": USAGE,
            "shipping": SHIPPING,
        },
        create,
    ),
    ("POST", "/v1/payment_intents/{id}/confirm", {"payment_method": forms.identifier}, confirm),
    (
        "POST",
        "/v1/payment_intents/{id}/cancel",
        {"cancellation_reason": forms.one_of("abandoned", "duplicate", "fraudulent", "requested_by_customer")},
        cancel,
    ),
]
