"""`source`, the older way to give a customer a card: a test card's token makes one that is the default source.

Such a card is a payment method, too, under the same id. `card_…` has Stripe's older shape only in its event.
"""

from . import cards
from .calls import Call
from .errors import Json
from .events import emit
from .payment_objects import new_card


def given(call: Call, customer: Json, token: str) -> Json:
    """The customer with this card (`tok_visa`, or a payment method's token) as its default source. 402 if declined."""
    name = token.replace("tok_", "pm_card_", 1)
    card = cards.named(name, "source", token)
    if not card.attaches:
        raise cards.declined(card.declines or "generic_decline", param="source")
    made = new_card(call, customer, card=name, prefix="card_1")
    after = call.store.change("customer", customer["id"], default_source=made["id"])
    emit(call, "customer.source.created", _source(made))
    return after


def _source(method: Json) -> Json:
    card, details = method["card"], method["billing_details"]
    address = {f"address_{name}": details["address"][name] for name in ("city", "country", "line1", "line2", "state")}
    return {
        "id": method["id"],
        "object": "card",
        **address,
        "address_line1_check": None,
        "address_zip": details["address"]["postal_code"],
        "address_zip_check": None,
        "brand": "Visa",
        "country": card["country"],
        "customer": method["customer"],
        "cvc_check": "pass",
        "dynamic_last4": None,
        "exp_month": card["exp_month"],
        "exp_year": card["exp_year"],
        "fingerprint": card["fingerprint"],
        "funding": card["funding"],
        "last4": card["last4"],
        "metadata": {},
        "name": details["name"],
        "regulated_status": card["regulated_status"],
        "tokenization_method": None,
        "wallet": None,
    }
