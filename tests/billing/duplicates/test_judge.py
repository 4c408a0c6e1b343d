"""What is owed for a bill, as a table."""

from typing import Any

import pytest

from billing.duplicates.judge import Bill, Dispute, Kind, Payment, Refund, Verdict, judge

S, W, P = Verdict.SEND, Verdict.WAIT, Verdict.PERSON


def bill(**fields: Any) -> Bill:
    """A bill in dollars."""
    return Bill("in_1", "usd", **fields)


def paid(*, refunds: Any = (), disputes: Any = (), amount: int = 900, charged: int | None = 900) -> tuple[Payment, ...]:
    """One payment, with refunds (amount, status) and disputes (amount, status)."""
    made = tuple(Refund(f"re_{number}", *one) for number, one in enumerate(refunds))
    held = tuple(Dispute(f"du_{number}", *one) for number, one in enumerate(disputes))
    return (Payment("inpay_1", {"payment_intent": "pi_1"}, amount, charged, made, held),)


@pytest.mark.parametrize(
    ("fields", "owed"),
    [
        ({}, []),
        ({"payments": paid()}, [(S, 900)]),
        ({"payments": paid(amount=0, charged=0)}, []),
        ({"payments": paid(charged=None)}, [(W, 900)]),  # a debit on its way
        ({"payments": paid(refunds=[(900, "succeeded")])}, []),
        ({"payments": paid(refunds=[(250, "succeeded")])}, [(S, 650)]),
        ({"payments": paid(refunds=[(900, "pending")])}, [(W, 900)]),
        ({"payments": paid(refunds=[(900, "requires_action")])}, [(W, 900)]),
        ({"payments": paid(refunds=[(250, "succeeded"), (650, "pending")])}, [(W, 650)]),
        ({"payments": paid(refunds=[(900, "failed")])}, [(P, 900)]),
        ({"payments": paid(refunds=[(900, "canceled")])}, [(P, 900)]),
        ({"payments": paid(refunds=[(900, "failed"), (900, "succeeded")])}, []),  # a person tried again
        ({"payments": paid(refunds=[(900, "failed"), (250, "succeeded")])}, [(P, 650)]),
        ({"payments": paid(refunds=[(900, "a status that Stripe adds")])}, [(W, 900)]),
        ({"payments": paid(disputes=[(900, "needs_response")])}, [(P, 900)]),
        ({"payments": paid(disputes=[(900, "warning_under_review")])}, [(P, 900)]),
        ({"payments": paid(disputes=[(900, "a status that Stripe adds")])}, [(P, 900)]),
        ({"payments": paid(disputes=[(900, "prevented")])}, [(P, 900)]),
        ({"payments": paid(disputes=[(900, "won")])}, [(S, 900)]),
        ({"payments": paid(disputes=[(900, "warning_closed")])}, [(S, 900)]),
        ({"payments": paid(disputes=[(900, "lost")])}, []),
        ({"payments": paid(disputes=[(400, "lost")])}, [(S, 500)]),
        ({"payments": paid(disputes=[(900, "lost")], refunds=[(900, "pending")])}, [(W, 900)]),
        ({"payments": paid(charged=1500)}, [(P, 900)]),  # a charge for several invoices
        ({"payments": paid(charged=500)}, [(P, 900)]),  # captured in part
        ({"payments": paid(charged=0)}, [(P, 900)]),  # of which Stripe knows nothing
        ({"payments": paid() + paid()}, [(S, 900), (S, 900)]),
        ({"payments": paid(), "current": False}, [(P, 900)]),
        ({"payments": paid(), "over": True}, [(P, 900)]),
        ({"payments": paid(), "foreign": True}, [(P, 900)]),
        ({"payments": paid(), "debt": 100}, [(P, 900)]),
        ({"payments": paid(), "noted": 900}, [(P, 900)]),
        ({"payments": paid(refunds=[(900, "succeeded")]), "noted": 900}, []),
        ({"outside": 900}, [(P, 900)]),
        ({"grants": 900}, [(P, 900)]),
        ({"credit": 900}, [(S, 900)]),
        ({"credit": 900, "credited": 900}, []),
        ({"credit": 900, "credited": 300}, [(S, 600)]),
        ({"credit": 900, "status": "open"}, [(P, 900)]),  # voiding it gives the credit back
        ({"credit": 900, "status": "uncollectible"}, [(P, 900)]),
        ({"credit": 900, "current": False}, [(P, 900)]),
        ({"credit": 900, "over": True}, [(P, 900)]),
        ({"credit": 900, "noted": 900}, [(P, 900)]),
        ({"payments": paid(amount=600, charged=600), "credit": 300}, [(S, 600), (S, 300)]),
        ({"payments": paid(amount=600, charged=600, refunds=[(600, "pending")]), "credit": 300}, [(W, 600), (S, 300)]),
    ],
)
def test_what_is_owed_is_what_is_not_back(fields: dict[str, Any], owed: list[tuple[Verdict, int]]) -> None:
    """SUB-110, SUB-112, SUB-114, SUB-115"""
    found = judge(bill(**fields))
    assert [(each.verdict, each.amount) for each in found] == owed
    assert all("USD" in each.sentence for each in found)


def test_what_is_sent_says_how_and_what_for() -> None:
    """SUB-19, SUB-112"""
    [refund, credit] = judge(bill(payments=paid(), credit=300))
    assert (refund.kind, refund.source, refund.target) == (Kind.REFUND, "inpay_1", {"payment_intent": "pi_1"})
    assert (credit.kind, credit.source, credit.target) == (Kind.CREDIT, "in_1", None)


@pytest.mark.parametrize(
    ("status", "words"), [("prevented", "look whether the buyer has it"), ("under_review", "answer the dispute")]
)
def test_person_reads_what_to_do_about_a_dispute(status: str, words: str) -> None:
    """SUB-115: one that was prevented is over, and cannot be answered."""
    [owed] = judge(bill(payments=paid(disputes=[(900, status)])))
    assert words in owed.sentence


@pytest.mark.parametrize(
    ("status", "words"), [("requires_action", "the buyer has to answer Stripe"), ("pending", "Stripe has not sent it")]
)
def test_person_reads_whom_a_refund_waits_for(status: str, words: str) -> None:
    """SUB-110"""
    [owed] = judge(bill(payments=paid(refunds=[(900, status)])))
    assert f"is {status}: {words}" in owed.sentence
