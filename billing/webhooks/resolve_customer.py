"""Whose an event is, where its own words do not say: a dispute names a charge, a thin notification names an object.

What is named is fetched from Stripe: the event, its object, and a dispute's or refund's charge. The ids are checked
before they become part of an address. What does not exist is an answer (WHK-72). A notification that events were never
made is nobody's unless it says for which object: then everybody has to be looked at (WHK-73). An object that Stripe
has, but of no customer, is a guest's: nobody has to be looked at.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from billing.database import Database
from billing.errors import StripeMissing
from billing.rules.ids import (
    CHARGE,
    CUSTOMER,
    DISPUTE,
    EVENT,
    INVOICE,
    PAYMENT_INTENT,
    REFUND,
    SCHEDULE,
    SESSION,
    SUBSCRIPTION,
    id_like,
)
from billing.stripe_gateway import StripeGateway
from billing.webhooks import events_store
from billing.webhooks.claim import Claimed
from billing.webhooks.envelope import read_data
from billing.webhooks.event_types import EventAction, action_for, is_thin

Json = Mapping[str, Any]
Read = Callable[[StripeGateway, str], Json]

# What a notification may name, by `related_object.type`: what its ids look like, and how it is read. Each of them has
# a `customer`, but for a dispute and a refund.
_READS: Mapping[str, tuple[re.Pattern[str], Read]] = {
    "subscription": (SUBSCRIPTION, lambda stripe, id_: stripe.get_subscription(id_)),
    "subscription_schedule": (SCHEDULE, lambda stripe, id_: stripe.get_schedule(id_)),
    "checkout.session": (SESSION, lambda stripe, id_: stripe.get_session(id_)),
    "invoice": (INVOICE, lambda stripe, id_: stripe.get_invoice(id_)),
    "charge": (CHARGE, lambda stripe, id_: stripe.get_charge(id_)),
    "payment_intent": (PAYMENT_INTENT, lambda stripe, id_: stripe.get_payment_intent(id_)),
    "dispute": (DISPUTE, lambda stripe, id_: stripe.get_dispute(id_)),
    "refund": (REFUND, lambda stripe, id_: stripe.get_refund(id_)),
}
_OF_A_CHARGE = ("dispute", "refund")


@dataclass(frozen=True, slots=True)
class Found:
    """Whom to sync; `everybody` where events are missing and nobody can tell whose."""

    customer_id: str | None = None
    everybody: bool = False


def find_customer(event: Claimed, *, database: Database, stripe: StripeGateway) -> Found:
    """Ask Stripe, one to three requests. Raises what the gateway raises, but not that something is missing."""
    ask = action_for(event.type)
    if ask is None or (ask not in (EventAction.DISPUTE, EventAction.REFUND) and not is_thin(event.type)):
        return Found()
    with database.read() as connection:
        payload = events_store.read_payload(connection, event.id)
    hints = read_data(payload) if payload else {}  # pruned: nothing
    if not is_thin(event.type):
        return _payer(hints, stripe) or Found()
    told = _read(stripe.get_thin_event, id_like(EVENT, event.event_id))
    if told is None:
        return Found()  # one that Stripe does not know starts nothing, whatever it says
    if ask is not EventAction.MISSED:
        return _owner(_part(told, "related_object") or hints, stripe) or Found()
    impact = _part(_part(told, "data"), "impact")
    lost_type = impact.get("event_type")
    if isinstance(lost_type, str) and action_for(lost_type) is None:
        return Found()  # nobody would have looked at those
    return _owner(_part(impact, "related_object"), stripe) or Found(everybody=True)


def _owner(named: Json, stripe: StripeGateway) -> Found | None:
    """Whose the object is that is named by `type` and `id`; None where Stripe has none, and so nobody can tell."""
    kind = str(named.get("type"))
    if kind == "customer":
        customer_id = id_like(CUSTOMER, named.get("id"))
        return Found(customer_id) if customer_id else None
    if kind not in _READS:
        return None
    pattern, read = _READS[kind]
    found = _read(lambda id_: read(stripe, id_), id_like(pattern, named.get("id")))
    if found is None:
        return None
    return _payer(found, stripe) if kind in _OF_A_CHARGE else _named_in(found)


def _payer(subject: Json, stripe: StripeGateway) -> Found | None:
    """Whose charge is disputed or refunded (WHK-12); without a charge, whose payment intent."""
    paid = _read(stripe.get_charge, id_like(CHARGE, subject.get("charge")))
    paid = paid or _read(stripe.get_payment_intent, id_like(PAYMENT_INTENT, subject.get("payment_intent")))
    return _named_in(paid) if paid else None


def _named_in(owned: Json) -> Found | None:
    """Its customer; nobody for a guest's; None where what stands there is no id."""
    customer_id = id_like(CUSTOMER, owned.get("customer"))
    return Found(customer_id) if customer_id or not owned.get("customer") else None


def _read(read: Callable[[str], Json], id_: str | None) -> Json | None:
    try:
        return read(id_) if id_ else None
    except StripeMissing:
        return None


def _part(whole: Json, name: str) -> Json:
    part = whole.get(name)
    return part if isinstance(part, Mapping) else {}
