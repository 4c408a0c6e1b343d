"""Giving back what a canceled duplicate took (SUB-19, SUB-110 to SUB-115).

1 read its bills, judge what is owed  2 write each refund and each credit as a row with its key  3 send it  4 note the
answer, and read and judge once more. Each number is a crash point: running it again continues from the rows and from
what Stripe shows. Stripe bounds refunds by what was paid, but credit by nothing. So a key is sent again only while
Stripe knows it, and replaced only after a look that would show what it has done.
"""

import uuid
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import structlog

from billing.duplicates import repayment_store
from billing.duplicates import store as duplicates_store
from billing.duplicates.bills import MARK, mark_of, read_bills
from billing.duplicates.context import REMEDIES, Context
from billing.duplicates.judge import Bill, Kind, Owed, Verdict, describe, judge
from billing.duplicates.repayment_store import Repayment
from billing.duplicates.store import Incident, Remedy
from billing.errors import PermanentError, StripeSavedFailure, TransientError
from billing.models import RemedyState
from billing.rules.product_tag import tag

log = structlog.get_logger(__name__)
# 15 s: a call at its 10 s timeout, plus slack. A worker that slept longer between its look and a write looks again.
LOOK_LASTS = timedelta(seconds=15)


def refund_all(incident: Incident, ctx: Context) -> str | None:
    """Give back what is owed for every subscription that was canceled; what is still owed, in words.

    Raises TransientError when it should be tried again soon.
    """
    with ctx.database.read() as connection:
        owed = duplicates_store.find_owed(connection, incident)
    reasons = [reason for remedy in owed if (reason := _try_to_give_back(remedy, ctx))]
    return " ".join(reasons) or None


def _try_to_give_back(remedy: Remedy, ctx: Context) -> str | None:
    """The same for one; what may not be read does not prevent the others."""
    try:
        return _give_back(remedy, ctx)
    except PermanentError as error:
        ctx.note_refusal("remedy.refused", error, subscription_id=remedy.subscription_id)
        return f"What {remedy.subscription_id} took cannot be looked at. {error.sentence}"


def _give_back(remedy: Remedy, ctx: Context) -> str | None:
    """Everything that one canceled subscription took; what is still owed, in words."""
    looked_at = ctx.stripe.now()
    bills, owed = _look(remedy, ctx)  # 1
    sending = [each for each in owed if each.verdict is Verdict.SEND]
    refused = {each.source: reason for each in sending if (reason := _send(each, remedy, looked_at, ctx))}
    if sending:
        bills, owed = _look(remedy, ctx)  # 4
    return _settle(remedy, bills, _reason(remedy, owed, refused), ctx)


def _look(remedy: Remedy, ctx: Context) -> tuple[Sequence[Bill], list[Owed]]:
    with ctx.database.read() as connection:
        rows = repayment_store.read_all(connection, remedy.id)
    bills = read_bills(remedy, rows, stripe=ctx.stripe)
    _note_statuses(rows, bills, ctx)
    return bills, [owed for bill in bills for owed in judge(bill)]


def _send(owed: Owed, remedy: Remedy, looked_at: Any, ctx: Context) -> str | None:
    """Steps 2 to 4 for one refund or credit; why Stripe refuses it, if it does. Raises TransientError."""
    parameters = _parameters(owed, remedy)
    row = _write_ahead(owed, remedy, parameters, looked_at, ctx)  # 2
    if abs(ctx.stripe.now() - looked_at) > LOOK_LASTS:
        raise TransientError("This took too long. What was given back is looked at again before more is.")
    with ctx.database.write() as connection:
        if not repayment_store.note_sending(connection, row, now=ctx.stripe.now()):
            raise TransientError("Another worker is giving this back.")
    try:
        answer = _call(row, remedy, ctx)  # 3
    except StripeSavedFailure as error:  # it may have been done: the next look shows it, before another key is used
        with ctx.database.write() as connection:
            repayment_store.note_spent(connection, row, error=error.sentence)
        raise
    except PermanentError as error:
        with ctx.database.write() as connection:
            repayment_store.note_spent(connection, row, error=error.sentence)
        ctx.note_refusal("remedy.refund_refused", error, subscription_id=remedy.subscription_id)
        return error.sentence
    status = str(answer.get("status") or "succeeded")
    with ctx.database.write() as connection:
        repayment_store.note_answer(connection, row, stripe_id=str(answer["id"]), status=status)
    log.warning(f"remedy.{owed.kind}_sent", subscription_id=remedy.subscription_id, amount=owed.amount, status=status)
    return None


def _write_ahead(owed: Owed, remedy: Remedy, parameters: dict[str, Any], looked_at: Any, ctx: Context) -> Repayment:
    """The row, with a key that may be sent now."""
    values = {
        "remedy_id": remedy.id,
        "kind": owed.kind,
        "source": owed.source,
        "amount": owed.amount,
        "currency": owed.currency,
        "parameters": parameters,
        "idempotency_key": f"onelane-{remedy.refund_key}-{owed.kind}-{owed.source}",
        "created_at": ctx.clock.now(),
    }
    with ctx.database.write() as connection:
        row = repayment_store.insert(connection, values)
        if row.is_usable(parameters, now=ctx.stripe.now()):
            return row
        if not row.may_be_renewed(looked_at=looked_at):
            raise TransientError("It is not clear yet what an earlier request has given back.")
        key = f"onelane-{uuid.uuid4()}"
        if not repayment_store.renew(connection, row, key=key, parameters=parameters, amount=owed.amount):
            raise TransientError("Another worker is giving this back.")
        return repayment_store.insert(connection, values)


def _parameters(owed: Owed, remedy: Remedy) -> dict[str, Any]:
    """Exactly what is sent."""
    metadata = {**tag(remedy.product), MARK: mark_of(remedy, owed.source)}
    if owed.kind is Kind.CREDIT:
        words = "Credit that a duplicate subscription took, given back"
        return {"amount": -owed.amount, "currency": owed.currency, "description": words, "metadata": metadata}
    return {**(owed.target or {}), "amount": owed.amount, "reason": "duplicate", "metadata": metadata}


def _call(row: Repayment, remedy: Remedy, ctx: Context) -> dict[str, Any]:
    if row.kind is Kind.CREDIT:
        customer_id, key = remedy.customer_id, row.idempotency_key
        return ctx.stripe.create_balance_transaction(customer_id, row.parameters, idempotency_key=key)
    return ctx.stripe.create_refund(row.parameters, idempotency_key=row.idempotency_key)


def _reason(remedy: Remedy, owed: Sequence[Owed], refused: dict[str, str]) -> str | None:
    if not owed:
        return None
    said = " ".join(f"Refused: {sentence}" for sentence in refused.values())
    return f"Not all that {remedy.subscription_id} took is back: {describe(owed)}. {said}".rstrip()


def _settle(remedy: Remedy, bills: Sequence[Bill], reason: str | None, ctx: Context) -> str | None:
    """Note the end, or what is still owed; a remedy that had ended goes on when a refund has failed since."""
    state = RemedyState.CANCELED
    if reason is None:
        state = RemedyState.REFUNDED if bills else RemedyState.NOTHING_TO_REFUND
    with ctx.database.write() as connection:
        won = duplicates_store.settle(connection, remedy, state, reason=reason, now=ctx.clock.now())
    if won and state != remedy.state:
        outcome = "reopened" if reason else state.value
        REMEDIES.labels(outcome).inc()
        log.warning(f"remedy.{outcome}", subscription_id=remedy.subscription_id, reason=reason)
    return reason


def _note_statuses(rows: Sequence[Repayment], bills: Sequence[Bill], ctx: Context) -> None:
    """What became of our refunds, for operators."""
    seen = {refund.id: refund.status for bill in bills for payment in bill.payments for refund in payment.refunds}
    known = {row.id: (row.status, seen.get(row.stripe_id or "")) for row in rows}
    changed = {row_id: now for row_id, (before, now) in known.items() if now is not None and now != before}
    if changed:
        with ctx.database.write() as connection:
            for row_id, status in changed.items():
                repayment_store.note_status(connection, row_id, status=status)
