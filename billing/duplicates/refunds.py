"""Refunds: what a canceled duplicate was paid goes back, each payment of its latest invoice once (SUB-19).

A refund asks for the whole of what is left of a payment and carries a key that the ledger keeps. So it can be sent
again by anybody at any time, also with a new key once Stripe keeps a failure under the old one: there is never more
to pay back than was paid, and a second refund is refused as one.
"""

import uuid
from collections.abc import Mapping
from typing import Any

import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.database import Database
from billing.duplicates import store as duplicates_store
from billing.duplicates.store import Incident, Remedy
from billing.errors import PermanentError, StripeRefused, StripeSavedFailure, TransientError
from billing.models import RemedyState
from billing.product_tag import tag
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none

log = structlog.get_logger(__name__)
REMEDIES = Counter("onelane_remedies_total", "What was done about duplicate subscriptions.", ["outcome"])


def refund_all(incident: Incident, *, database: Database, stripe: StripeGateway, clock: Clock) -> str | None:
    """Refund everything that was canceled; why one is refused, if one is. That keeps no other from being refunded.

    Raises TransientError when it is worth trying again soon.
    """
    with database.read() as connection:
        owed = duplicates_store.find_owed(connection, incident)
    reason = None
    for remedy in owed:
        try:
            state = _refund(remedy, stripe)
        except StripeSavedFailure:  # this key is spent, and a second refund of the whole is refused as one
            with database.write() as connection:
                duplicates_store.renew_key(connection, remedy, new_key=str(uuid.uuid4()))
            raise
        except PermanentError as error:
            reason = f"The refund of {remedy.subscription_id} is refused. {error.sentence}"
            with database.write() as connection:
                key = str(uuid.uuid4())
                duplicates_store.note_refusal(connection, remedy, reason=reason, new_key=key, now=clock.now())
            REMEDIES.labels("failed").inc()
            log.error("remedy.refund_refused", subscription_id=remedy.subscription_id, reason=error.sentence)  # noqa: TRY400
            continue
        with database.write() as connection:
            now = clock.now()
            won = duplicates_store.settle(connection, remedy, state, now=now)
            duplicates_store.resolve_refusals(connection, remedy, now=now)
        if won:
            REMEDIES.labels(state.value).inc()
            log.warning(f"remedy.{state.value}", subscription_id=remedy.subscription_id)
    return reason


def _refund(remedy: Remedy, stripe: StripeGateway) -> RemedyState:
    """The subscription's latest invoice, what paid it, and the whole of that back (SUB-19)."""
    subscription = or_none(stripe.get_subscription, remedy.subscription_id) or {}
    invoice = subscription.get("latest_invoice")
    invoice_id = invoice.get("id") if isinstance(invoice, Mapping) else invoice
    payments = stripe.list_invoice_payments(invoice_id) if invoice_id else []
    for payment in payments:
        _refuse_to_hurry(payment, stripe)
    paid = [one for one in payments if one.get("status") == "paid" and one.get("amount_paid")]
    for payment in paid:
        _pay_back(payment, remedy, stripe)
    return RemedyState.REFUNDED if paid else RemedyState.NOTHING_TO_REFUND


def _refuse_to_hurry(payment: Mapping[str, Any], stripe: StripeGateway) -> None:
    """A debit that is on its way can be refunded only once it has arrived."""
    intent = (payment.get("payment") or {}).get("payment_intent")
    waits = payment.get("status") == "open" and isinstance(intent, str)
    if waits and stripe.get_payment_intent(str(intent)).get("status") == "processing":
        raise TransientError("The payment is still on its way; it is refunded when it has arrived.")


def _pay_back(payment: Mapping[str, Any], remedy: Remedy, stripe: StripeGateway) -> None:
    by = payment.get("payment") or {}
    kind = next((kind for kind in ("payment_intent", "charge") if isinstance(by.get(kind), str)), None)
    if kind is None:
        raise PermanentError("It was paid outside Stripe: a person has to pay it back.")
    parameters = {kind: by[kind], "reason": "duplicate", "metadata": tag(remedy.product)}
    key = f"onelane-{remedy.refund_key}-{payment['id']}"
    try:
        refund = stripe.create_refund(parameters, idempotency_key=key)
    except StripeRefused as refused:
        if refused.stripe_code == "charge_already_refunded":
            return  # by us, in an answer that was lost, or by a person: it is not owed any more
        raise
    if refund.get("status") in ("failed", "canceled"):
        raise PermanentError("Stripe could not send the money back: a person has to.")
