"""The events of one invoice, in the order in which Stripe was seen to send them after a subscription Checkout."""

from . import cards
from .calls import Call
from .disputes import dispute
from .errors import Json
from .events import emit
from .invoices import Billed

_CLOSED = {"void": "invoice.voided", "uncollectible": "invoice.marked_uncollectible"}


def announce(call: Call, billed: Billed, *, charged: bool = False) -> None:
    """All events of an invoice; `charged` when the caller already announced the charge, as Checkout does first."""
    if billed.charge is not None and not charged:
        announce_charge(call, billed.charge)
    if billed.intent is not None and billed.intent["status"] != "requires_payment_method":
        emit(call, f"payment_intent.{billed.intent['status']}", billed.intent)  # succeeded, processing, requires_action
    if billed.intent_created is not None:
        emit(call, "payment_intent.created", billed.intent_created)
    if billed.intent is not None and billed.intent["last_payment_error"] is not None:
        emit(call, "payment_intent.payment_failed", billed.intent)
    if billed.draft["status"] == "draft":
        emit(call, "invoice.created", billed.draft)
        if billed.open["status"] != "draft":
            emit(call, "invoice.finalized", billed.open)
    if billed.last["status"] == "paid":
        emit(call, "invoice.paid", billed.last)
        emit(call, "invoice.payment_succeeded", billed.last)
        if billed.payment is not None:
            emit(call, "invoice_payment.paid", billed.payment)
    elif billed.last["status"] in _CLOSED:
        emit(call, _CLOSED[billed.last["status"]], billed.last)
    elif billed.last["status"] == "open":
        if billed.intent is not None and billed.intent["status"] == "requires_action":
            emit(call, "invoice.payment_action_required", billed.last)
        if billed.last["attempt_count"] > billed.open["attempt_count"]:
            emit(call, "invoice.payment_failed", billed.last)


def announce_charge(call: Call, made: Json) -> None:
    """A charge's own event; some test cards' buyers then go to their bank."""
    emit(call, f"charge.{made['status']}", made)
    status = cards.behind(made["payment_method_details"]).disputed
    if status is not None and made["status"] == "succeeded":
        dispute(call, made["id"], status)
