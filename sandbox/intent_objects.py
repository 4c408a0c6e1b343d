"""A payment intent as it begins, asks its buyer, and is not answered."""

from . import forms
from .calls import Call
from .errors import Json

UNAUTHENTICATED = (
    "The provided PaymentMethod has failed authentication. You can provide payment_method_data or a new PaymentMethod"
    " to attempt to fulfill this PaymentIntent again."
)

_PLACE = forms.table({name: forms.text() for name in ("city", "country", "line1", "line2", "postal_code", "state")})
SHIPPING = forms.table({"address": _PLACE, "name": forms.text(), "phone": forms.text()})
USAGE = forms.one_of("off_session", "on_session")


def new_intent(
    call: Call,
    *,
    amount: int,
    currency: str,
    customer: str | None,
    description: str | None = None,
    metadata: Json | None = None,
    setup_future_usage: str | None = None,
    shipping: Json | None = None,
) -> Json:
    """A payment intent that still waits for its payment method. The caller announces it."""
    id = call.store.new_id("pi_3")
    return call.store.put(
        "payment_intent",
        {
            "id": id,
            "object": "payment_intent",
            "amount": amount,
            "amount_capturable": 0,
            "amount_details": {"tip": {}},
            "amount_received": 0,
            "application": None,
            "application_fee_amount": None,
            "automatic_payment_methods": None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic",
            "client_secret": call.store.new_id(f"{id}_secret_", 25),
            "confirmation_method": "automatic",
            "created": call.wall,
            "currency": currency,
            "customer": customer,
            "customer_account": None,
            "description": description,
            "excluded_payment_method_types": None,
            "last_payment_error": None,
            "latest_charge": None,
            "livemode": call.livemode,
            "metadata": metadata or {},
            "next_action": None,
            "on_behalf_of": None,
            "payment_method": None,
            "payment_method_configuration_details": None,
            "payment_method_options": {
                "card": {
                    "installments": None,
                    "mandate_options": None,
                    "network": None,
                    "request_three_d_secure": "automatic",
                }
            },
            "payment_method_types": ["card"],
            "processing": None,
            "receipt_email": None,
            "review": None,
            "setup_future_usage": setup_future_usage,
            "shipping": shipping,
            "source": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "requires_payment_method",
            "transfer_data": None,
            "transfer_group": None,
        },
    )


def ask_for_authentication(base_url: str, intent: Json) -> Json:
    """What the buyer has to do next: their bank's page."""
    return {
        "type": "redirect_to_url",
        "redirect_to_url": {"return_url": None, "url": f"{base_url}/authenticate/{intent['id']}"},
    }


def unauthenticated(call: Call, intent: Json) -> Json:
    """The buyer's bank was not convinced. No charge is made. The caller announces it."""
    code = "payment_intent_authentication_failure"
    error: Json = {
        "code": code,
        "doc_url": f"https://docs.stripe.com/error-codes/{code.replace('_', '-')}",
        "message": UNAUTHENTICATED,
        "payment_method": call.find("payment_method", intent["payment_method"]),
        "type": "invalid_request_error",
    }
    fields = {"status": "requires_payment_method", "payment_method": None, "next_action": None}
    return call.store.change("payment_intent", intent["id"], last_payment_error=error, **fields)
