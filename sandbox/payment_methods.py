"""Payment methods: a test card attached to a customer, taken off again, and which one pays."""

from . import cards, forms
from .calls import Call, Route
from .errors import Json, bad_parameter, missing_object, refused
from .events import emit
from .lists import PAGING
from .payment_objects import new_card
from .payments import list_of, retrieve


def attached(call: Call, customer: Json, token: str, param: str = "payment_method") -> Json:
    """A card of this customer, announced: a test card's token makes one, the id of an own one is that one."""
    known = None
    if token not in cards.CARDS:
        known = call.named("payment_method", token, noun="PaymentMethod", param=param)
        if known["customer"] == customer["id"]:
            return known
        if known["customer"] is not None:
            raise refused("The payment method you provided has already been attached to a customer.", param=param)
    card = cards.behind(known) if known else cards.named(token)
    if not card.attaches:
        raise cards.declined(card.declines or "generic_decline")
    if known is not None:
        one = call.store.change("payment_method", token, customer=customer["id"])
    else:
        one = new_card(call, customer, card=token)
    emit(call, "payment_method.attached", one)
    return one


def one_off(call: Call, customer: Json | None, token: str, param: str = "payment_method") -> Json:
    """A card for one payment: a test card's token makes one, an id names one that is free or the customer's."""
    if token in cards.CARDS:
        none = dict.fromkeys(("address", "email", "id", "name", "phone"))
        return new_card(call, customer or none, card=token, attached=False)
    one = call.named("payment_method", token, noun="PaymentMethod", param=param)
    if one["customer"] not in (None, customer["id"] if customer else None):
        raise refused(
            f"The payment method {token} belongs to a Customer. Please pass its Customer, too, to use it.", param=param
        )
    return one


def of_customer(call: Call, customer: Json, id: str, param: str) -> Json:
    """The card that a parameter names; it must belong to the customer."""
    one = call.named("payment_method", id, noun="PaymentMethod", param=param)
    if one["customer"] != customer["id"]:
        raise refused(
            f"The customer does not have a payment method with the ID {id}. The payment method must be attached to the"
            " customer.",
            code="resource_missing",
            param=param,
        )
    return one


def paying_for(call: Call, customer: Json, subscription: Json | None = None) -> Json | None:
    """The card that pays: the subscription's own, else the customer's default. An attached card alone does not."""
    own = subscription["default_payment_method"] if subscription else None
    default = own or customer["invoice_settings"]["default_payment_method"] or customer["default_source"]
    one = call.find("payment_method", default)
    return one if one and one["customer"] == customer["id"] else None


def answering(call: Call, one: Json, code: str | None) -> Json:
    """The bank's answer from now on: a decline code, or None for the card's own."""
    return call.store.change("payment_method", one["id"], _declines=code)


def attach(call: Call, params: Json) -> Json:
    forms.require(params, "customer")
    customer = call.named("customer", params["customer"], param="customer")
    if customer.get("deleted"):
        raise missing_object("customer", customer["id"], param="customer", status=400)
    return attached(call, customer, params["id"])


def detach(call: Call, params: Json) -> Json:
    old = call.named("payment_method", params["id"], noun="PaymentMethod")
    if old["customer"] is None:
        raise refused("The payment method you provided is not attached to a customer so detachment is impossible.")
    one = call.store.change("payment_method", old["id"], customer=None)
    emit(call, "payment_method.detached", one, previous=old)
    for subscription in call.store.newest_first("subscription", customer=old["customer"]):
        if subscription["default_payment_method"] == old["id"]:
            call.store.change("subscription", subscription["id"], default_payment_method=None)
    customer = call.named("customer", old["customer"])
    if customer["invoice_settings"]["default_payment_method"] == old["id"]:
        settings = {**customer["invoice_settings"], "default_payment_method": None}
        emit(
            call,
            "customer.updated",
            call.store.change("customer", customer["id"], invoice_settings=settings),
            previous=customer,
        )
    return one


def create(call: Call, params: Json) -> Json:
    """A card that no customer has yet. Stripe takes a number in test mode too; here a token names the card."""
    forms.require(params, "type")
    token = (params.get("card") or {}).get("token")
    if token is None:
        raise bad_parameter("Missing required param: card[token].", "card[token]", code="parameter_missing")
    details = {**dict.fromkeys(("address", "email", "name", "phone")), **(params.get("billing_details") or {})}
    one = new_card(call, {"id": None, **details}, card=token.replace("tok_", "pm_card_"), attached=False)
    return call.store.change("payment_method", one["id"], metadata=forms.merge_metadata({}, params.get("metadata")))


def update(call: Call, params: Json) -> Json:
    old = call.named("payment_method", params["id"], noun="PaymentMethod")
    if "metadata" not in params:
        return old
    one = call.store.change(
        "payment_method", old["id"], metadata=forms.merge_metadata(old["metadata"], params["metadata"])
    )
    emit(call, "payment_method.updated", one, previous=old)
    return one


_DETAILS = forms.table({"email": forms.text(), "name": forms.text(), "phone": forms.text()})

ROUTES: list[Route] = [
    (
        "POST",
        "/v1/payment_methods",
        {
            "billing_details": _DETAILS,
            "card": forms.table({"token": forms.identifier}),
            "metadata": forms.metadata,
            "type": forms.one_of("card"),
        },
        create,
    ),
    (
        "GET",
        "/v1/payment_methods",
        {**PAGING, "customer": forms.text(), "type": forms.text()},
        list_of("payment_method", "/v1/payment_methods", "type"),
    ),
    ("GET", "/v1/payment_methods/{id}", {}, retrieve("payment_method")),
    ("POST", "/v1/payment_methods/{id}", {"metadata": forms.metadata}, update),
    ("POST", "/v1/payment_methods/{id}/attach", {"customer": forms.identifier}, attach),
    ("POST", "/v1/payment_methods/{id}/detach", {}, detach),
]
