"""What a buyer pays once, on the page of a session in `payment` mode: at once, or by money that comes later."""

from . import checkout_sessions, intent_objects, payment_objects
from .calls import Call
from .checkout_objects import details_of
from .errors import Json
from .events import emit
from .paid_events import announce_charge


def pay(call: Call, session: Json, customer: Json, method: Json | None, *, delayed: bool) -> Json:
    intent = None
    if method is not None and session["amount_total"]:
        waiting = intent_objects.new_intent(
            call,
            amount=session["amount_total"],
            currency=session["currency"],
            customer=customer["id"],
            **session["_intent_data"],
        )
        if delayed:
            fields = {"status": "processing", "payment_method": method["id"]}
            intent = call.store.change("payment_intent", waiting["id"], **fields)
        else:
            made, intent = payment_objects.charge(call, waiting, method)
            announce_charge(call, made)
        emit(call, f"payment_intent.{intent['status']}", intent)
        emit(call, "payment_intent.created", waiting)
    done = checkout_sessions.completed(
        call,
        session,
        customer=customer["id"],
        customer_details=details_of(customer),
        payment_intent=intent["id"] if intent else None,
        payment_status="no_payment_required" if intent is None else "unpaid" if delayed else "paid",
    )
    emit(call, "checkout.session.completed", done)
    return done


def settle(call: Call, session: Json, *, succeeds: bool) -> Json:
    intent = call.named("payment_intent", session["payment_intent"])
    method = call.named("payment_method", intent["payment_method"])
    made, intent = payment_objects.charge(call, intent, method, fails=not succeeds)
    announce_charge(call, made)
    emit(call, f"payment_intent.{'succeeded' if made['status'] == 'succeeded' else 'payment_failed'}", intent)
    if made["status"] == "succeeded":
        session = call.store.change("checkout_session", session["id"], payment_status="paid")
    emit(call, f"checkout.session.async_payment_{made['status']}", session)
    return session
