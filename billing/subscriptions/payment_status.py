"""Whether the payment of the current period is disputed or refunded, as Stripe answers when asked.

It takes four requests for each subscription. So it is fetched only after an event about it, while the row says disputed
or refunded, and by reconciling where access depends on it. Only the latest invoice counts: an older payment says
nothing about the period in use. At a renewal Stripe names a new invoice that is not paid yet, a draft for an hour.
Until it is paid, the row stays as it was (SUB-61).
"""

from collections.abc import Iterable, Mapping
from typing import Any

from billing.catalog import Catalog
from billing.ids import CHARGE, INVOICE, PAYMENT_INTENT, id_like
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.projection import PaymentStatus, belongs, is_live

Json = Mapping[str, Any]

# A dispute that is open or was lost. `won` is over; an inquiry (`warning_...`) has moved no money yet.
DISPUTED = frozenset({"needs_response", "under_review", "lost"})


def fetch_payment_status(
    subscriptions: Iterable[Json], *, catalog: Catalog, stripe: StripeGateway
) -> Mapping[str, PaymentStatus]:
    """By subscription id, for the live subscriptions of our product whose latest invoice is paid.

    An object that Stripe does not have counts as not disputed and not refunded. Raises the gateway's errors.
    """
    found = {}
    for subscription in subscriptions:
        if belongs(subscription, catalog) and is_live(str(subscription.get("status"))):
            status = _of_invoice(id_like(INVOICE, subscription.get("latest_invoice")), stripe)
            if status is not None:
                found[str(subscription["id"])] = status
    return found


def _of_invoice(invoice_id: str | None, stripe: StripeGateway) -> PaymentStatus | None:
    """None while the invoice is not paid."""
    if invoice_id is None or (or_none(stripe.get_invoice, invoice_id) or {}).get("status") != "paid":
        return None
    payments = or_none(stripe.list_invoice_payments, invoice_id) or []
    paid = [payment for payment in payments if payment.get("status") == "paid"]
    charges = [charge for payment in paid if (charge := _charge(payment, stripe))]
    disputed = [charge for charge in charges if charge.get("disputed") and _is_disputed(str(charge["id"]), stripe)]
    refunded = [charge for charge in charges if charge.get("refunded")]
    return PaymentStatus(disputed=bool(disputed), refunded=bool(refunded) and len(refunded) == len(charges))


def _charge(payment: Json, stripe: StripeGateway) -> Json | None:
    """The charge of a payment; None for one that was made outside Stripe."""
    by = payment.get("payment") or {}
    charge_id = id_like(CHARGE, by.get("charge"))
    intent_id = id_like(PAYMENT_INTENT, by.get("payment_intent"))
    if charge_id is None and intent_id is not None:
        charge_id = id_like(CHARGE, (or_none(stripe.get_payment_intent, intent_id) or {}).get("latest_charge"))
    found: Json | None = or_none(stripe.get_charge, charge_id) if charge_id else None
    return found


def _is_disputed(charge_id: str, stripe: StripeGateway) -> bool:
    """`charge.disputed` stays true after a dispute was won, so the disputes' own status decides."""
    return any(dispute.get("status") in DISPUTED for dispute in stripe.list_disputes(charge_id))
