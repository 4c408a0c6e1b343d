"""The bills of a canceled duplicate, read from Stripe: its invoices, their payments, refunds, disputes and credit.

Lists promise no read-after-write. A refund that we were answered and that the list lacks is read by its id; a balance
transaction is final, so its answer is enough.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from billing.duplicates.judge import Bill, Dispute, Kind, Payment, Refund
from billing.duplicates.policy import credit_in, received
from billing.duplicates.repayment_store import Repayment
from billing.duplicates.store import Remedy
from billing.rules.ids import CHARGE, INVOICE, PAYMENT_INTENT, id_like
from billing.rules.product_tag import metadata_of
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none

Json = Mapping[str, Any]
MARK = "onelane_repayment"  # in the metadata of what we send: the row's mark
_TOOK = frozenset({"applied_to_invoice", "unapplied_from_invoice"})


def read_bills(remedy: Remedy, rows: Collection[Repayment], *, stripe: StripeGateway) -> list[Bill]:
    """Every bill that took money for what the buyer has twice, newest first. Raises the gateway's errors.

    A subscription that is older than the one that stays was no duplicate before: of it the running period counts alone.
    """
    subscription = or_none(stripe.get_subscription, remedy.subscription_id) or {}
    kept = or_none(stripe.get_subscription, remedy.kept_id) or {}
    invoices = or_none(stripe.list_invoices, remedy.subscription_id) or []
    latest = id_like(INVOICE, subscription.get("latest_invoice"))
    if latest and latest not in {invoice["id"] for invoice in invoices}:
        invoices = [*filter(None, [or_none(stripe.get_invoice, latest)]), *invoices]
    moves = or_none(stripe.list_balance_transactions, remedy.customer_id) or []
    ended = subscription.get("ended_at") or subscription.get("canceled_at") or 0
    newer = (subscription.get("created") or 0) >= (kept.get("created") or 0)
    bills = (_bill(invoice, remedy, rows, moves, ended, stripe) for invoice in invoices if _may_owe(invoice))
    return [bill for bill in bills if bill.took and (bill.current or newer)]


def _may_owe(invoice: Json) -> bool:
    return invoice.get("status") not in ("draft", "void")


def _bill(
    invoice: Json, remedy: Remedy, rows: Collection[Repayment], moves: Sequence[Json], ended: int, stripe: StripeGateway
) -> Bill:
    id_ = str(invoice["id"])
    lines, more = _lines(invoice)
    own = [line for line in lines if _subscription_of(line) == remedy.subscription_id]
    payments = [
        payment
        for found in or_none(stripe.list_invoice_payments, id_) or []
        if (payment := _payment(found, rows, stripe)) is not None
    ]
    arrived = sum(payment.amount for payment in payments if payment.charged is not None)
    taken = sum(int(move.get("amount") or 0) for move in moves if move.get("invoice") == id_ and move["type"] in _TOOK)
    return Bill(
        id=id_,
        currency=str(invoice.get("currency") or ""),
        status=str(invoice.get("status")),
        current=any(_ends(line) > ended for line in own),
        over=any(line.get("amount") and _ends(line) <= ended for line in own),
        foreign=more or any(line.get("amount") and _subscription_of(line) != remedy.subscription_id for line in lines),
        payments=tuple(payments),
        outside=max(0, received(invoice) - arrived),
        credit=max(credit_in(invoice), taken),  # a list may lag
        credited=_credited(id_, remedy, rows, moves),
        debt=max(0, int(invoice.get("starting_balance") or 0), -taken),
        grants=_grants(invoice),
        noted=int(invoice.get("post_payment_credit_notes_amount") or 0),
    )


def mark_of(remedy: Remedy, source: str) -> str:
    """What marks the one thing that gives back this source."""
    return f"{remedy.nonce}-{source}"


def _payment(found: Json, rows: Collection[Repayment], stripe: StripeGateway) -> Payment | None:
    """None for one that took nothing, and for one outside Stripe, which `outside` counts."""
    by = found.get("payment") or {}
    intent_id, charge_id = id_like(PAYMENT_INTENT, by.get("payment_intent")), id_like(CHARGE, by.get("charge"))
    if intent_id is None and charge_id is None:
        return None
    target = {"payment_intent": intent_id} if intent_id else {"charge": str(charge_id)}
    intent = (or_none(stripe.get_payment_intent, intent_id) or {}) if intent_id else {}
    if found.get("status") == "open" and intent.get("status") == "processing":
        return Payment(str(found["id"]), target, int(found.get("amount_requested") or 0), None)
    amount = int(found.get("amount_paid") or 0)
    if found.get("status") != "paid" or amount <= 0:
        return None
    charge_id = charge_id or id_like(CHARGE, intent.get("latest_charge"))
    charge, refunds, disputes = stripe.in_parallel(
        partial(or_none, stripe.get_charge, str(charge_id)),
        partial(or_none, stripe.list_refunds, str(charge_id)),
        partial(or_none, stripe.list_disputes, str(charge_id)),
    )
    listed = list(refunds or [])
    ours = {row.stripe_id for row in rows if row.source == found["id"] and row.stripe_id}
    missing = sorted(ours - {one["id"] for one in listed})
    listed += [one for id_ in missing if (one := or_none(stripe.get_refund, id_)) is not None]
    return Payment(
        str(found["id"]),
        target,
        amount,
        int((charge or {}).get("amount_captured") or 0),
        tuple(Refund(one["id"], int(one["amount"]), str(one["status"]), one.get("failure_reason")) for one in listed),
        tuple(Dispute(one["id"], int(one["amount"]), str(one["status"])) for one in disputes or []),
    )


def _credited(invoice_id: str, remedy: Remedy, rows: Collection[Repayment], moves: Sequence[Json]) -> int:
    """What we gave back of the credit in an invoice: as the list shows it by its mark, or as it was answered."""
    mark = mark_of(remedy, invoice_id)
    listed = sum(-int(move.get("amount") or 0) for move in moves if metadata_of(move).get(MARK) == mark)
    answered = sum(row.amount for row in rows if row.kind is Kind.CREDIT and row.source == invoice_id and row.stripe_id)
    return max(listed, answered)


def _lines(invoice: Json) -> tuple[list[Json], bool]:
    """The lines, and whether there are more than Stripe shows with an invoice."""
    lines = invoice.get("lines") or {}
    return list(lines.get("data") or []), bool(lines.get("has_more"))


def _subscription_of(line: Json) -> str | None:
    parent = line.get("parent") or {}
    details = parent.get("subscription_item_details") or parent.get("invoice_item_details") or {}
    named = details.get("subscription")
    return str(named) if named else None


def _ends(line: Json) -> int:
    return int((line.get("period") or {}).get("end") or 0)


def _grants(invoice: Json) -> int:
    """What billing credits paid: Stripe lists them beside the discounts."""
    parts = invoice.get("total_pretax_credit_amounts") or []
    return sum(int(part.get("amount") or 0) for part in parts if part.get("type") == "credit_balance_transaction")
