"""What a buyer does on the payment page: pay, be declined, be asked to authenticate, or pay by a method whose money
comes later.

Paying makes everything at once (customer, card, subscription, invoice, payment) and then announces it in the order in
which Stripe was seen to send it: the charge and the session first, the subscription and the invoice after them.
"""

from fractions import Fraction

from . import (
    cards,
    checkout_lines,
    checkout_sessions,
    customers,
    intent_objects,
    lifecycle,
    paying_once,
    payment_objects,
    subscription_objects,
)
from .calls import Call
from .checkout_objects import details_of
from .errors import Json, refused
from .events import emit
from .invoices import Billed, authentication_failed, collect
from .paid_events import announce, announce_charge
from .subscription_parameters import kept, trial_end

# What a buyer types on the page, where the session may save it at the customer.
_ADDRESS = {
    "city": "San Francisco",
    "country": "US",
    "line1": None,
    "line2": None,
    "postal_code": "94107",
    "state": "CA",
}


def pay(call: Call, session: Json, *, delayed: bool = False, card: str = "pm_card_visa") -> Json:
    """The session, complete, or still open where the card is declined or its bank asks.

    `delayed`: the money comes later, `payment_status` is unpaid until `settle_late`. A trial for which the session
    asks for a card only if it is needed begins without one.
    """
    _still_open(session)
    kind, due = cards.named(card, "card"), bool(session["amount_total"])
    if (kind.declines and due) or not kind.attaches:
        return decline(call, session, card=card)
    if kind.asks and due:
        return challenge(call, session, card=card)
    customer = _payer(call, session)
    needed = due or session["payment_method_collection"] == "always"
    method = payment_objects.new_card(call, customer, card=card) if needed else None
    if session["mode"] == "payment":
        return paying_once.pay(call, session, customer, method, delayed=delayed)
    if method and (waiting := _waiting(call, session)):  # begun with a card that asked: there is never a second
        return _settle(call, session, waiting, method)
    subscription, billed = _subscribe(call, session, customer, method, "processing" if delayed else "try")
    done = _complete(call, session, customer, subscription, billed)
    if billed.charge is not None:
        announce_charge(call, billed.charge)
    if method is not None:
        emit(call, "payment_method.attached", method)
    emit(call, "checkout.session.completed", done)
    _noted(call, session, customer)
    emit(call, "customer.subscription.created", subscription)
    announce(call, billed, charged=True)
    lifecycle.tell_of_trial(call, subscription)
    return done


def challenge(call: Call, session: Json, *, card: str = "pm_card_authenticationRequiredOnSetup") -> Json:
    """The buyer's bank asks who they are: until they answer, the session is open and its subscription `incomplete`."""
    _still_open(session)
    if session["mode"] != "subscription" or not session["amount_total"]:
        raise refused("The sandbox asks for authentication only where a subscription is paid at once.")
    if _waiting(call, session):
        return session
    customer = _payer(call, session)
    method = payment_objects.new_card(call, customer, card=card)
    subscription, billed = _subscribe(call, session, customer, method, "requires_action", status="incomplete")
    emit(call, "payment_method.attached", method)
    emit(call, "customer.subscription.created", subscription)
    announce(call, billed)
    return call.store.change("checkout_session", session["id"], _subscription=subscription["id"])


def authenticate(call: Call, session: Json, *, succeeds: bool) -> Json:
    """The buyer's answer to their bank. Where the session was expired meanwhile, nothing is paid any more."""
    _still_open(session)
    subscription = _waiting(call, session)
    if subscription is None:
        raise refused("Nobody asked this buyer to authenticate.")
    if succeeds:
        return _settle(
            call, session, subscription, call.named("payment_method", subscription["default_payment_method"])
        )
    billed = authentication_failed(call, call.named("invoice", subscription["latest_invoice"]))
    announce(call, billed)
    return session


def _payer(call: Call, session: Json) -> Json:
    known = call.find("customer", session["customer"])
    email = session["customer_email"] or "buyer@example.com"
    return known if known and not known.get("deleted") else customers.made(call, email=email)


def _share(call: Call, session: Json) -> Fraction:
    return checkout_lines.due_share(call, session["_lines"][0]["price"], session["_subscription_data"])


def _waiting(call: Call, session: Json) -> Json | None:
    """The subscription of this session whose first payment waits for the buyer's authentication."""
    found = call.find("subscription", session["_subscription"])
    return found if found and found["status"] == "incomplete" else None


def _subscribe(
    call: Call, session: Json, customer: Json, method: Json | None, outcome: str, *, status: str | None = None
) -> tuple[Json, Billed]:
    data = session["_subscription_data"]
    coupon = call.find("coupon", session["discounts"][0]["coupon"]) if session["discounts"] else None
    subscription = subscription_objects.new(
        call,
        customer,
        [{"price": line["price"], "quantity": line["quantity"], "tax_rates": line["_tax_rates"]}
         for line in session["_lines"]],
        trial_end=trial_end(call, data),
        anchor=data.get("billing_cycle_anchor"),
        found=[{"coupon": coupon}] if coupon else [],
        default_payment_method=method["id"] if method else None,
        status=status,
    )  # fmt: skip
    given = {**data, "automatic_tax": {"enabled": session["automatic_tax"]["enabled"]}}
    subscription = subscription_objects.save(call, subscription, **kept(call, given, subscription))
    share = _share(call, session)
    return lifecycle.charge_period(
        call, subscription, reason="subscription_create", method=method, outcome=outcome, share=share
    )


def _settle(call: Call, session: Json, waiting: Json, method: Json) -> Json:
    """The first payment comes after all: the subscription that waited for it is active, the session complete."""
    billed = collect(call, call.named("invoice", waiting["latest_invoice"]), method, answered=True)
    subscription = subscription_objects.save(call, waiting, status="active", default_payment_method=method["id"])
    customer = call.named("customer", subscription["customer"])
    done = _complete(call, session, customer, subscription, billed)
    assert billed.charge is not None
    announce_charge(call, billed.charge)
    emit(call, "checkout.session.completed", done)
    _noted(call, session, customer)
    emit(call, "customer.subscription.updated", subscription, previous=waiting)
    announce(call, billed, charged=True)
    return done


def _complete(call: Call, session: Json, customer: Json, subscription: Json, billed: Billed) -> Json:
    paid = "paid" if billed.last["status"] == "paid" else "unpaid"
    return checkout_sessions.completed(
        call,
        session,
        amount_subtotal=billed.last["subtotal"],  # a prorated amount is that of the moment of paying
        amount_total=billed.last["total"],
        customer=customer["id"],
        customer_details=details_of(customer),
        invoice=billed.last["id"],
        payment_status="no_payment_required" if _share(call, session) == 0 else paid,
        subscription=subscription["id"],
    )


def _noted(call: Call, session: Json, customer: Json) -> None:
    """What paying leaves at the customer: the currency, and the address where the session may save it."""
    now = call.store.get("customer", customer["id"]) or customer
    fields: Json = {"currency": session["currency"]}
    update = session["_customer_update"]
    if "auto" in (update.get("address"), update.get("shipping")):
        fields["address"] = _ADDRESS
    if update.get("name") == "auto":
        fields["name"] = "Sandbox Buyer"
    customers.changed(call, {**now, "currency": customer["currency"]}, **fields)


def decline(call: Call, session: Json, *, card: str = "pm_card_chargeDeclined") -> Json:
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
        intent = intent_objects.new_intent(
            call, amount=session["amount_total"], currency=session["currency"], customer=card_holder["id"]
        )
        emit(call, "payment_intent.created", intent)
    method = payment_objects.new_card(call, card_holder, card=card, attached=False)
    made, intent = payment_objects.charge(call, intent, method)
    emit(call, "charge.failed", made)
    emit(call, "payment_intent.payment_failed", intent)
    return call.store.change("checkout_session", session["id"], _intent=intent["id"])


def settle_late(call: Call, session: Json, *, succeeds: bool) -> Json:
    """The delayed payment arrives, or does not: then the subscription is past due."""
    if session["status"] != "complete" or session["payment_status"] != "unpaid":
        raise refused("Only a complete session whose payment is still on its way can be settled.")
    if session["mode"] == "payment":
        return paying_once.settle(call, session, succeeds=succeeds)
    subscription = call.named("subscription", session["subscription"])
    card = call.named("payment_method", subscription["default_payment_method"])
    billed = collect(call, call.named("invoice", session["invoice"]), card, fails=not succeeds)
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
