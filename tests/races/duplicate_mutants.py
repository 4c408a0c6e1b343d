"""The shortcuts of the remedy (SUB-16 to SUB-21), as switchable changes of the real code, each with its test."""

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from billing.customers import due_syncs
from billing.customers.store import find_owner
from billing.duplicates import bills, judge, policy, refunds, repayment_store
from billing.duplicates import store as duplicates_store
from billing.models import RemedyState, remedies
from billing.stripe_gateway import GatewayClient
from billing.subscriptions import projection_store
from tests.races.mutant import Mutant, always, answered_with, new_key
from tests.races.scene import Scene

OWED, PLANNED, REMEDY, REPAYMENTS, WHO = (
    f"tests/billing/duplicates/test_{name}.py"
    for name in ("what_is_owed", "planned", "remedy", "repayments", "who_pays")
)


def keep_the_oldest(_: Any, candidates: Any) -> Any:
    """Whatever it pays, the oldest stays."""
    return policy._Choice(candidates[0], list(candidates[1:]))


def whether_ever_paid(real: Any, candidate: Any) -> Any:
    """What was paid once is paid now, and whatever is tagged is sold."""
    return real(replace(candidate, period=(), is_sold=True))


def plan_without_a_look(_: Any, connection: Any, values: Any) -> bool:
    """A plan is written whoever was chosen to stay before."""
    return bool(duplicates_store.insert_new(connection, remedies, {**values, "state": RemedyState.PLANNED}))


def is_back(verdict: judge.Verdict) -> Callable[..., Any]:
    """What was judged so counts as done."""
    return lambda real, bill: [owed for owed in real(bill) if owed.verdict is not verdict]


def row_after_call(real: Any, row: Any, remedy: Any, ctx: Any) -> Any:
    """What is sent has a key that is in no row: whoever comes after a crash sends it anew."""
    return real(replace(row, idempotency_key=f"{row.idempotency_key}-{uuid.uuid4()}"), remedy, ctx)


def closed_when_claimed(real: Any, connection: Any, **named: Any) -> Any:
    """Whoever takes a customer to fetch strikes them off the list."""
    due = real(connection, **named)
    if due is not None:
        due_syncs.note_synced(connection, due.customer_id)
    return due


def nobody_is_new(real: Any, connection: Any, customer_id: str) -> Any:
    """That somebody was taken over is forgotten: only what is new at Stripe is told."""
    owner = real(connection, customer_id)
    if owner is None or not owner.sync_due:
        return owner
    due_syncs.note_synced(connection, customer_id)
    return replace(owner, sync_due=False)


def without_a_look(real: Any, invoice_id: Any, remedy: Any, rows: Any, _moves: Any) -> int:
    """What is not in our rows was not given."""
    return int(real(invoice_id, remedy, rows, []))


def resolved_when_one_is_live(real: Any, connection: Any, *, customer_id: str, product: str, now: Any) -> int | None:
    """One live subscription is the end, whatever is owed."""
    ours = projection_store.update_open("duplicate_subscription", customer_id=customer_id, product=product)
    connection.execute(ours.values(resolved_at=now))
    return None


PAID_TWICE = Scene(plans=(), subscribed=True, duplicate=True)
TAKEN_OVER = Scene(plans=(), webhooks=True)
DUPLICATE_MUTANTS = {
    "refund_without_its_row": Mutant(
        "give money back under a key that no row has",
        {refunds._call: row_after_call, bills._credited: without_a_look},
        scene=replace(PAID_TWICE, credit=400),
    ),
    "failed_is_back": Mutant(
        "a refund that the bank returned is money back",
        {judge.judge: is_back(judge.Verdict.PERSON)},
        scene=replace(PAID_TWICE, refund_fails=True),
    ),
    "taken_over_closed_first": Mutant(
        "a customer who was taken over is struck off before they were fetched",
        {due_syncs.claim: closed_when_claimed},
        scene=replace(TAKEN_OVER, webhooks=False, taken_over="new"),
    ),
    "taken_over_untold": Mutant(
        "the application is not told whose a known subscription is",
        {find_owner: nobody_is_new},
        scene=replace(TAKEN_OVER, taken_over="known"),
    ),
    "keep_the_oldest": Mutant(
        "the oldest stays, whether it pays or not",
        {policy._choose: keep_the_oldest},
        test=f"{REMEDY}::test_older_one_that_does_not_pay_goes_and_the_paid_one_stays",
    ),
    "whether_ever_paid": Mutant(
        "what pays is told by the status and by what was ever paid",
        {policy.Candidate.standing: whether_ever_paid},
        test=f"{WHO}::test_older_one_that_pays_for_less_or_for_something_else_is_left_to_a_person",
    ),
    "scheduled_is_canceled": Mutant(
        "cancel what somebody planned something for",
        {policy.Candidate.is_scheduled: always(False)},
        test=f"{WHO}::test_newer_one_for_which_a_person_planned_something_is_left_to_a_person",
    ),
    "one_period": Mutant(
        "give back a period that was used up, too",
        {bills._bill: answered_with(over=False)},
        test=f"{OWED}::test_bill_for_two_periods_of_which_one_is_over_is_left_to_a_person",
    ),
    "late_payment_unnoticed": Mutant(
        "what is paid for a canceled one afterwards is kept",
        {duplicates_store.note_money_event: always([])},
        test=f"{OWED}::test_bill_that_is_paid_after_its_subscription_was_canceled_is_paid_back",
    ),
    "outside_unseen": Mutant(
        "what was paid outside Stripe is nothing",
        {policy.received: lambda _, invoice: int(invoice.get("amount_paid") or 0)},
        test=f"{OWED}::test_what_was_paid_outside_stripe_is_left_to_a_person",
    ),
    "forget_who_stays": Mutant(
        "whoever was chosen to stay may be canceled later",
        {duplicates_store.find_kept: always(frozenset()), duplicates_store.plan: plan_without_a_look},
        test=f"{PLANNED}::test_two_plans_never_cross_when_the_older_one_pays_again",
    ),
    "pending_is_back": Mutant(
        "a pending refund is money back",
        {judge.judge: is_back(judge.Verdict.WAIT)},
        test=f"{REPAYMENTS}::test_pending_refund_keeps_the_incident_open_until_it_has_arrived",
    ),
    "no_credit_back": Mutant(
        "credit is not given back",
        {bills._bill: answered_with(credit=0)},
        test=f"{REPAYMENTS}::test_credit_that_the_duplicate_took_is_on_the_balance_again",
    ),
    "credit_new_key": Mutant(
        "a new idempotency key when giving credit is taken over",
        {GatewayClient.create_balance_transaction: new_key},
        test=f"{REPAYMENTS}::test_lost_answer_is_asked_for_again_under_the_same_key",
    ),
    "credit_without_a_look": Mutant(
        "another key without a look at the balance",
        {bills._credited: without_a_look},
        test=f"{REPAYMENTS}::test_unclear_answer_is_looked_at_before_more_is_given",
    ),
    "credit_renewed_at_once": Mutant(
        "another key while lists may lag",
        {repayment_store.Repayment.may_be_renewed: always(True)},
        test=f"{REPAYMENTS}::test_saved_failure_is_not_followed_by_another_key_while_lists_may_lag",
    ),
    "refund_events_unnoticed": Mutant(
        "a refund that fails later is not looked at",
        {duplicates_store.note_money_event: always([])},
        test=f"{REPAYMENTS}::test_refund_that_fails_later_opens_the_incident_again",
    ),
    "canceled_is_over": Mutant(
        "the incident is over when one subscription is left",
        {projection_store.resolve_if_over: resolved_when_one_is_live},
        test=f"{REPAYMENTS}::test_sync_leaves_the_incident_open_while_money_is_owed",
    ),
    "disputed_is_refunded": Mutant(
        "what is disputed is refunded",
        {judge._held: always(None)},
        test=f"{OWED}::test_disputed_payment_is_not_refunded_before_the_bank_has_decided",
    ),
}
