"""Setup intents: a card is kept for later without a charge, as by a page that only asks for a card."""

from typing import Any

from . import balances, cards, forms
from .calls import Call, Route
from .errors import Json
from .events import emit
from .lists import PAGING
from .payment_methods import one_off
from .payments import list_of, retrieve


def create(call: Call, params: Json) -> Json:
    customer = balances.alive(call, params["customer"]) if params.get("customer") else None
    one = call.store.put("setup_intent", _new(call, params, customer))
    emit(call, "setup_intent.created", one)
    if params.get("payment_method"):
        method = one_off(call, customer, params["payment_method"])
        one = _became(call, one, payment_method=method["id"], status="requires_confirmation")
    elif params.get("confirm"):
        forms.require(params, "payment_method")
    return _confirmed(call, one, customer) if params.get("confirm") else one


def _confirmed(call: Call, one: Json, customer: Json | None) -> Json:
    """The card is checked, not charged: one that is declined at once is, one that asks is asked."""
    method = call.named("payment_method", one["payment_method"])
    card = cards.behind(method)
    if card.asks:
        asked = {"type": "use_stripe_sdk", "use_stripe_sdk": {}}
        one = _became(call, one, status="requires_action", next_action=asked)
        emit(call, "setup_intent.requires_action", one)
        return one
    if not card.attaches:
        one = _became(call, one, status="requires_payment_method", payment_method=None)
        emit(call, "setup_intent.setup_failed", one)
        raise cards.declined(card.declines or "generic_decline")
    if customer is not None and method["customer"] is None:
        method = call.store.change("payment_method", method["id"], customer=customer["id"])
        emit(call, "payment_method.attached", method)
    one = _became(call, one, status="succeeded")
    emit(call, "setup_intent.succeeded", one)
    return one


def _became(call: Call, one: Json, **fields: Any) -> Json:
    return call.store.change("setup_intent", one["id"], **fields)


def _new(call: Call, params: Json, customer: Json | None) -> Json:
    id = call.store.new_id("seti_1")
    return {
        "id": id,
        "object": "setup_intent",
        "application": None,
        "automatic_payment_methods": None,
        "cancellation_reason": None,
        "client_secret": call.store.new_id(f"{id}_secret_", 25),
        "created": call.wall,
        "customer": customer["id"] if customer else None,
        "customer_account": None,
        "description": params.get("description"),
        "excluded_payment_method_types": None,
        "flow_directions": None,
        "last_setup_error": None,
        "latest_attempt": None,
        "livemode": call.livemode,
        "mandate": None,
        "metadata": forms.merge_metadata({}, params.get("metadata")),
        "next_action": None,
        "on_behalf_of": None,
        "payment_method": None,
        "payment_method_configuration_details": None,
        "payment_method_options": {"card": {"mandate_options": None, "network": None,
                                            "request_three_d_secure": "automatic"}},
        "payment_method_types": ["card"],
        "single_use_mandate": None,
        "status": "requires_payment_method",
        "usage": params.get("usage") or "off_session",
    }  # fmt: skip


ROUTES: list[Route] = [
    (
        "POST",
        "/v1/setup_intents",
        {
            "confirm": forms.boolean,
            "customer": forms.identifier,
            "description": forms.text(1000),
            "metadata": forms.metadata,
            "payment_method": forms.identifier,
            "usage": forms.one_of("off_session", "on_session"),
        },
        create,
    ),
    (
        "GET",
        "/v1/setup_intents",
        {**PAGING, "created": forms.created, "customer": forms.text(), "payment_method": forms.text()},
        list_of("setup_intent", "/v1/setup_intents", "payment_method"),
    ),
    ("GET", "/v1/setup_intents/{id}", {}, retrieve("setup_intent")),
]
