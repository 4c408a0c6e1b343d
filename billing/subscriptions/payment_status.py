"""The money of a customer's subscriptions, as Stripe answers when asked: what is paid, owed, disputed or refunded.

The list of subscriptions comes with each one's latest invoice. Where that is paid and covers the plan's current period,
nothing more is asked. Else one request reads all of the subscription's invoices. Disputes and refunds take three
more for each invoice that covers the period. So they are fetched only after an event about them, while the row says
disputed or refunded, and by reconciling where access depends on them. At a renewal Stripe makes a new invoice that is
not paid yet. While that is a draft, the one before decides; then, until it is paid, the row stays as it was (SUB-61).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

from billing.catalog import Catalog
from billing.rules.ids import CHARGE, PAYMENT_INTENT, id_like
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none
from billing.subscriptions.invoices import Money, Payment, judge, settles
from billing.subscriptions.projection import belongs, is_live, plan_item

Json = Mapping[str, Any]

# A dispute that is open or was lost. `won` is over; an inquiry (`warning_...`) has moved no money yet.
DISPUTED = frozenset({"needs_response", "under_review", "lost"})


def fetch_money(
    subscriptions: Iterable[Json],
    *,
    with_disputes: bool,
    catalog: Catalog,
    stripe: StripeGateway,
    at: Callable[[Json], datetime],
) -> Mapping[str, Money]:
    """By subscription id, for the live subscriptions of our product; `at` says each one's time.

    An object that Stripe does not have counts as not disputed and not refunded. Raises the gateway's errors.
    """
    ours = [each for each in subscriptions if belongs(each, catalog) and is_live(str(each.get("status")))]
    unclear = [
        each
        for each in ours
        if (with_disputes and each.get("latest_invoice")) or not settles(each, plan_item(each, catalog), catalog)
    ]
    calls = [partial(or_none, stripe.list_invoices, str(each["id"])) for each in unclear]
    read = dict(zip((str(each["id"]) for each in unclear), stripe.in_parallel(*calls), strict=True))
    found = {}
    for subscription in ours:
        id_, item = str(subscription["id"]), plan_item(subscription, catalog)
        if id_ not in read:
            found[id_] = Money()
            continue
        invoices: Sequence[Json] = read[id_] or []
        money = judge(subscription, item, invoices, catalog, now=at(subscription))
        if subscription.get("status") == "active":  # what seems to have failed may be a debit that takes days
            money = _with_what_comes(money, stripe)
        found[id_] = (
            _with_disputes(money, _paid(subscription, money.decides, invoices), stripe) if with_disputes else money
        )
    return found


def _with_what_comes(money: Money, stripe: StripeGateway) -> Money:
    if money.payment is Payment.FIRST_FAILED and money.decides and _is_on_its_way(money.decides, stripe):
        money = replace(money, payment=Payment.FIRST_PENDING)
    if money.bought and all(_is_on_its_way(invoice, stripe) for invoice in money.bought.unpaid):
        money = replace(money, bought=None)
    return money


def _is_on_its_way(invoice: Json, stripe: StripeGateway) -> bool:
    """Whether a payment of it has neither arrived nor failed: a debit takes days."""
    for payment in or_none(stripe.list_invoice_payments, str(invoice["id"])) or []:
        intent_id = id_like(PAYMENT_INTENT, (payment.get("payment") or {}).get("payment_intent"))
        intent = (
            or_none(stripe.get_payment_intent, intent_id) if intent_id and payment.get("status") == "open" else None
        )
        if (intent or {}).get("status") == "processing":
            return True
    return False


def _paid(subscription: Json, decides: Json | None, invoices: Sequence[Json]) -> list[Json]:
    """What paid the current period: the invoice that decides about it; nothing while that is unpaid, or was voided.

    The latest one where no line says what period it is for.
    """
    latest = subscription.get("latest_invoice")
    latest_id = latest.get("id") if isinstance(latest, Mapping) else latest
    found = [decides] if decides else [one for one in invoices if one.get("id") == latest_id]
    return [invoice for invoice in found if invoice.get("status") == "paid"]


def _with_disputes(money: Money, paid: Sequence[Json], stripe: StripeGateway) -> Money:
    """Unknown while nothing of the period is paid."""
    if not paid:
        return money
    payments = [payment for one in paid for payment in or_none(stripe.list_invoice_payments, str(one["id"])) or []]
    arrived = [payment for payment in payments if payment.get("status") == "paid"]
    charges = [charge for payment in arrived if (charge := _charge(payment, stripe))]
    disputed = [charge for charge in charges if charge.get("disputed") and _is_disputed(str(charge["id"]), stripe)]
    refunded = [charge for charge in charges if charge.get("refunded")]
    return replace(money, disputed=bool(disputed), refunded=bool(refunded) and len(refunded) == len(charges))


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
