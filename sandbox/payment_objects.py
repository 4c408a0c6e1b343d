"""Money that moves, or does not: payment methods and charges. `cards` says which card does what."""

from . import cards
from .calls import Call
from .errors import Json

_NO_ADDRESS = {
    "city": None, "country": None, "line1": None, "line2": None, "postal_code": None, "state": None
}  # fmt: skip


def new_card(
    call: Call, customer: Json, *, card: str = "pm_card_visa", attached: bool = True, prefix: str = "pm_1"
) -> Json:
    """A card, attached to the customer unless it was declined. The caller announces it."""
    return call.store.put(
        "payment_method",
        {
            "id": call.store.new_id(prefix),
            "object": "payment_method",
            "allow_redisplay": "limited",
            "billing_details": _billing_details(customer),
            "card": {
                "brand": "visa",
                "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
                "country": "US",
                "display_brand": "visa",
                "exp_month": 12,
                "exp_year": 2034,
                "fingerprint": "SandboxFingerprint",
                "funding": "credit",
                "generated_from": None,
                "last4": cards.named(card).last4,
                "networks": {"available": ["visa"], "preferred": None},
                "regulated_status": "unregulated",
                "three_d_secure_usage": {"supported": True},
                "wallet": None,
            },
            "created": call.wall,
            "customer": customer["id"] if attached else None,
            "customer_account": None,
            "livemode": call.livemode,
            "metadata": {},
            "type": "card",
        },
    )


def _billing_details(customer: Json) -> Json:
    return {
        "address": customer["address"] or _NO_ADDRESS,
        "email": customer["email"],
        "name": customer["name"],
        "phone": customer["phone"],
        "tax_id": None,
    }


def charge(call: Call, intent: Json, method: Json, *, fails: bool = False) -> tuple[Json, Json]:
    """Tries the card once: (charge, intent), stored. The caller announces both, in its own order.

    The card decides, unless the caller knows that it `fails`.
    """
    code = cards.decline_code(method) or ("generic_decline" if fails else None)
    succeeds = code is None
    id = call.store.new_id("ch_3")
    made = call.store.put(
        "charge",
        {
            "id": id,
            "object": "charge",
            "amount": intent["amount"],
            "amount_captured": intent["amount"] if succeeds else 0,
            "amount_refunded": 0,
            "application": None,
            "application_fee": None,
            "application_fee_amount": None,
            "balance_transaction": call.store.new_id("txn_3") if succeeds else None,
            "billing_details": method["billing_details"],
            "calculated_statement_descriptor": "SANDBOX",
            "captured": succeeds,
            "created": call.wall,
            "currency": intent["currency"],
            "customer": intent["customer"],
            "description": intent["description"],
            "disputed": False,
            "failure_balance_transaction": None,
            "failure_code": None if succeeds else "card_declined",
            "failure_message": cards.message(code) if code else None,
            "fraud_details": {},
            "livemode": call.livemode,
            "metadata": intent["metadata"],
            "on_behalf_of": None,
            "outcome": {
                "advice_code": None if succeeds else "try_again_later",
                "network_advice_code": None,
                "network_decline_code": None if succeeds else "01",
                "network_status": "approved_by_network" if succeeds else "declined_by_network",
                "reason": code,
                "risk_level": "normal",
                "risk_score": 12,
                "seller_message": "Payment complete."
                if succeeds
                else "The bank did not return any further details with this decline.",
                "type": "authorized" if succeeds else "issuer_declined",
            },
            "paid": succeeds,
            "payment_intent": intent["id"],
            "payment_method": method["id"],
            "payment_method_details": {
                "card": {**method["card"], "mandate": None, "network": "visa", "three_d_secure": None},
                "type": "card",
            },
            "receipt_email": None,
            "receipt_number": None,
            "receipt_url": f"{call.base_url}/receipts/{id}" if succeeds else None,
            "refunded": False,
            "review": None,
            "shipping": intent["shipping"],
            "source": None,
            "source_transfer": None,
            "statement_descriptor": None,
            "statement_descriptor_suffix": None,
            "status": "succeeded" if succeeds else "failed",
            "transfer_data": None,
            "transfer_group": None,
        },
    )
    if code is None:
        intent = call.store.change(
            "payment_intent",
            intent["id"],
            amount_received=intent["amount"],
            customer=made["customer"],
            last_payment_error=None,
            latest_charge=id,
            next_action=None,
            payment_method=method["id"],
            status="succeeded",
        )
    else:
        error: Json = {
            "advice_code": "try_again_later",
            "charge": id,
            "code": "card_declined",
            "decline_code": code,
            "doc_url": "https://docs.stripe.com/error-codes/card-declined",
            "message": cards.message(code),
            "network_decline_code": "01",
            "payment_method": method,
            "type": "card_error",
        }
        intent = call.store.change(
            "payment_intent",
            intent["id"],
            last_payment_error=error,
            latest_charge=id,
            status="requires_payment_method",
        )
    return made, intent
