"""What a buyer does on the payment page: pay, be declined, or pay by a method whose money comes later.

Paying makes everything at once (customer, card, subscription, invoice, payment) and then announces it in the order in
which Stripe was seen to send it: the charge and the session first, the subscription and the invoice after them.
"""

from . import checkout_sessions, customers, lifecycle, payments
from .calls import Call
from .errors import Json, refused
from .events import emit
from .invoices import collect
from .paid_events import announce, announce_charge


def pay(call: Call, session: Json, *, delayed: bool = False) -> Json:
    """The session, complete. `delayed`: the money comes later, `payment_status` is unpaid until `settle_late`."""
    _still_open(session)
    known = call.find("customer", session["customer"])
    email = session["customer_email"] or "buyer@example.com"
    customer = known if known and not known.get("deleted") else customers.made(call, email=email)
    method = payments.new_card(call, customer)
    if session["mode"] == "payment":
        return _pay_once(call, session, customer, method)
    data = session["_subscription_data"]
    trial_end = checkout_sessions.trial_end(call, data)
    share = checkout_sessions.due_share(call, session["_lines"][0]["price"], data)
    coupon = call.find("coupon", session["discounts"][0]["coupon"]) if session["discounts"] else None
    subscription = lifecycle.new(
        call,
        customer,
        [{"price": line["price"], "quantity": line["quantity"]} for line in session["_lines"]],
        metadata=data.get("metadata"),
        description=data.get("description"),
        trial_end=trial_end,
        anchor=data.get("billing_cycle_anchor"),
        coupon=coupon,
        method=method,
        automatic_tax=session["automatic_tax"]["enabled"],
    )
    subscription, billed = lifecycle.charge_period(
        call,
        subscription,
        reason="subscription_create",
        method=method,
        outcome="processing" if delayed else "paid",
        share=share,
    )
    done = checkout_sessions.completed(
        call,
        session,
        amount_subtotal=billed.last["subtotal"],  # a prorated amount is that of the moment of paying
        amount_total=billed.last["total"],
        customer=customer["id"],
        customer_details=checkout_sessions.details_of(customer),
        invoice=billed.last["id"],
        payment_status="no_payment_required" if share == 0 else "paid" if billed.last["status"] == "paid" else "unpaid",
        subscription=subscription["id"],
    )
    if billed.charge is not None:
        announce_charge(call, billed.charge)
    emit(call, "payment_method.attached", method)
    emit(call, "checkout.session.completed", done)
    now = call.store.get("customer", customer["id"]) or customer
    customers.changed(call, {**now, "currency": customer["currency"]}, currency=session["currency"])
    emit(call, "customer.subscription.created", subscription)
    announce(call, billed, charged=True)
    return done


def _pay_once(call: Call, session: Json, customer: Json, method: Json) -> Json:
    intent = made = None
    if session["amount_total"]:
        waiting = payments.new_intent(
            call, amount=session["amount_total"], currency=session["currency"], customer=customer["id"]
        )
        made, intent = payments.charge(call, waiting, method)
        announce_charge(call, made)
        emit(call, "payment_intent.succeeded", intent)
        emit(call, "payment_intent.created", waiting)
    done = checkout_sessions.completed(
        call,
        session,
        customer=customer["id"],
        customer_details=checkout_sessions.details_of(customer),
        payment_intent=intent["id"] if intent else None,
        payment_status="paid",
    )
    emit(call, "checkout.session.completed", done)
    return done


def decline(call: Call, session: Json) -> Json:
    """The card is refused: the session stays open, the attempt is announced."""
    _still_open(session)
    customer = call.find("customer", session["customer"])
    card_holder = customer or {
        "id": None,
        "address": None,
        "email": session["customer_email"],
        "name": None,
        "phone": None,
    }
    intent = call.find("payment_intent", session["_intent"])
    if intent is None:
        intent = payments.new_intent(
            call, amount=session["amount_total"], currency=session["currency"], customer=card_holder["id"]
        )
        emit(call, "payment_intent.created", intent)
    method = payments.new_card(call, card_holder, last4="0002", attached=False)
    made, intent = payments.charge(call, intent, method, succeeds=False)
    emit(call, "charge.failed", made)
    emit(call, "payment_intent.payment_failed", intent)
    return call.store.change("checkout_session", session["id"], _intent=intent["id"])


def settle_late(call: Call, session: Json, *, succeeds: bool) -> Json:
    """The delayed payment arrives, or does not: then the subscription is past due."""
    if session["status"] != "complete" or session["payment_status"] != "unpaid":
        raise refused("Only a complete session whose payment is still on its way can be settled.")
    subscription = call.named("subscription", session["subscription"])
    card = call.named("payment_method", subscription["default_payment_method"])
    billed = collect(call, call.named("invoice", session["invoice"]), card, succeeds=succeeds)
    announce(call, billed)
    if succeeds:
        done = call.store.change("checkout_session", session["id"], payment_status="paid")
        emit(call, "checkout.session.async_payment_succeeded", done)
        return done
    lifecycle.mark(call, subscription, "past_due", before=subscription)
    emit(call, "checkout.session.async_payment_failed", session)
    return session


def _still_open(session: Json) -> None:
    if session["status"] != "open":
        raise refused(f"This Checkout Session is {session['status']}.")
