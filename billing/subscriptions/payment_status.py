"""Money: whether what paid for the current period is disputed or was paid back, as Stripe says when asked.

Asked only after an event about it, while one of them was so when we last looked, and by reconciling where the catalog
makes access depend on it: it takes four requests for each subscription. Only the latest invoice is looked at: a
renewal that was paid is a new payment, and an old one says nothing about the period in use. At a renewal Stripe names
an invoice that nobody has paid yet, a draft for an hour: it says nothing, so what was seen before stays (SUB-61).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from billing.catalog import Catalog
from billing.ids import CHARGE, INVOICE, PAYMENT_INTENT, id_like
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.projection import Money, belongs, is_live

Json = Mapping[str, Any]

# A dispute that is open or was lost. `won` is over; an inquiry (`warning_...`) has moved no money yet.
DISPUTED = frozenset({"needs_response", "under_review", "lost"})


def look_at_money(subscriptions: Iterable[Json], *, catalog: Catalog, stripe: StripeGateway) -> Mapping[str, Money]:
    """By the ids of the live subscriptions of our product; those whose latest invoice is not paid are left out.

    Raises the gateway's errors; what is missing says no.
    """
    ours = (one for one in subscriptions if belongs(one, catalog) and is_live(str(one.get("status"))))
    seen = ((str(one["id"]), _look(id_like(INVOICE, one.get("latest_invoice")), stripe)) for one in ours)
    return {subscription_id: money for subscription_id, money in seen if money is not None}


def _look(invoice_id: str | None, stripe: StripeGateway) -> Money | None:
    """None while nobody has paid it."""
    if invoice_id is None or (or_none(stripe.get_invoice, invoice_id) or {}).get("status") != "paid":
        return None
    payments = or_none(stripe.list_invoice_payments, invoice_id) or []
    charges = [charge for one in payments if one.get("status") == "paid" if (charge := _charge(one, stripe))]
    disputed = [one for one in charges if one.get("disputed") and _is_disputed(str(one["id"]), stripe)]
    refunded = [one for one in charges if one.get("refunded")]
    return Money(disputed=bool(disputed), refunded=bool(refunded) and len(refunded) == len(charges))


def _charge(payment: Json, stripe: StripeGateway) -> Json | None:
    """The charge behind a payment; one that was paid outside Stripe has none."""
    by = payment.get("payment") or {}
    charge_id = id_like(CHARGE, by.get("charge"))
    intent_id = id_like(PAYMENT_INTENT, by.get("payment_intent"))
    if charge_id is None and intent_id is not None:
        charge_id = id_like(CHARGE, (or_none(stripe.get_payment_intent, intent_id) or {}).get("latest_charge"))
    found: Json | None = or_none(stripe.get_charge, charge_id) if charge_id else None
    return found


def _is_disputed(charge_id: str, stripe: StripeGateway) -> bool:
    """`charge.disputed` stays true after a dispute was won; its status tells."""
    return any(one.get("status") in DISPUTED for one in stripe.list_disputes(charge_id))
