"""Refunds: each payment of a canceled duplicate's latest invoice is paid back, once and in full (SUB-19).

A refund asks for all that is left of a payment, under a key that the ledger keeps. So any worker can send it again,
also with a new key when Stripe saved a failure under the old one. Stripe refuses a second refund of the same payment.
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
from billing.rules.product_tag import tag
from billing.stripe_gateway import StripeGateway
from billing.subscriptions.fetch import or_none

log = structlog.get_logger(__name__)
REMEDIES = Counter("onelane_remedies_total", "What was done about duplicate subscriptions.", ["outcome"])


def refund_all(incident: Incident, *, database: Database, stripe: StripeGateway, clock: Clock) -> str | None:
    """Refund every subscription that was canceled; the reason of a refusal, if there is one. The others are refunded.

    Raises TransientError when it should be tried again soon.
    """
    with database.read() as connection:
        owed = duplicates_store.find_owed(connection, incident)
    reason = None
    for remedy in owed:
        try:
            state = _refund(remedy, stripe)
        except StripeSavedFailure:  # the key is used up; a second full refund would be refused
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
    """Refund all payments of the subscription's latest invoice."""
    subscription = or_none(stripe.get_subscription, remedy.subscription_id) or {}
    invoice = subscription.get("latest_invoice")
    invoice_id = invoice.get("id") if isinstance(invoice, Mapping) else invoice
    payments = stripe.list_invoice_payments(invoice_id) if invoice_id else []
    for payment in payments:
        _require_arrived(payment, stripe)
    paid = [payment for payment in payments if payment.get("status") == "paid" and payment.get("amount_paid")]
    for payment in paid:
        _pay_back(payment, remedy, stripe)
    return RemedyState.REFUNDED if paid else RemedyState.NOTHING_TO_REFUND


def _require_arrived(payment: Mapping[str, Any], stripe: StripeGateway) -> None:
    """Raises TransientError for a debit that has not arrived yet: Stripe can refund it only then."""
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
            return  # by us, with a lost answer, or by a person
        raise
    if refund.get("status") in ("failed", "canceled"):
        raise PermanentError("Stripe could not send the money back: a person has to.")
