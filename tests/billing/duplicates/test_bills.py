"""The bills of a canceled duplicate, as tables: what Stripe shows of an invoice and its money, and the bill of it."""

from dataclasses import replace
from typing import Any

import pytest

from billing.duplicates.bills import mark_of, read_bills
from billing.duplicates.judge import Bill, Dispute, Kind, Payment, Refund
from billing.duplicates.repayment_store import Repayment
from billing.duplicates.store import Remedy
from billing.models import RemedyState
from tests.support.builders import NOON, stamp
from tests.support.fakes import FakeStripe

START, DAY = stamp(NOON), 86_400
ENDED = START + 5 * DAY
REMEDY = Remedy(1, 1, "cus_1", "kiloclaw", "sub_2", "sub_1", "nonce", "key", RemedyState.CANCELED, None, 0)
Json = dict[str, Any]


def line(ends: int = START + 30 * DAY, amount: int = 900, of: str = "sub_2", by: str = "subscription_item") -> Json:
    """A line of an invoice: for a period of an item, or something else that was added to a subscription."""
    return {"amount": amount, "period": {"end": ends}, "parent": {f"{by}_details": {"subscription": of}}}


def lines(*of: Json, has_more: bool = False) -> Json:
    """The lines as an invoice has them."""
    return {"lines": {"data": list(of), "has_more": has_more}}


def moved(amount: int, type: str = "applied_to_invoice", **instead: Any) -> Json:
    """A change of the customer's balance; credit that is used is a positive amount."""
    made = {"object": "customer_balance_transaction", "customer": "cus_1", "invoice": "in_1"}
    return made | {"type": type, "amount": amount, **instead}


def refund(amount: int, status: str = "succeeded", **instead: Any) -> Json:
    """A refund of the charge."""
    return {"object": "refund", "charge": "ch_1", "amount": amount, "status": status, **instead}


def row(source: str, stripe_id: str | None, kind: Kind = Kind.REFUND, amount: int = 900) -> Repayment:
    """What we gave back, and what we were answered."""
    return Repayment(1, 1, kind, source, amount, {}, "key", False, stripe_id, None, None, None)


# A month for 900 that was paid by card, of a subscription that was canceled after five days.
STRIPE: dict[str, Json] = {
    "sub_1": {"object": "subscription", "created": START},
    "sub_2": {"object": "subscription", "created": START + 60, "ended_at": ENDED, "latest_invoice": "in_1"},
    "in_1": {"object": "invoice", "subscription": "sub_2", "status": "paid", "currency": "usd", "amount_paid": 900}
    | lines(line()),
    "inpay_1": {"object": "invoice_payment", "invoice": "in_1", "status": "paid", "amount_paid": 900}
    | {"amount_requested": 900, "payment": {"payment_intent": "pi_1"}},
    "pi_1": {"object": "payment_intent", "status": "succeeded", "latest_charge": "ch_1"},
    "ch_1": {"object": "charge", "amount_captured": 900},
}
PAID = Payment("inpay_1", {"payment_intent": "pi_1"}, 900, 900)
BILL = Bill("in_1", "usd", payments=(PAID,))
OF_BEFORE = replace(BILL, current=False, over=True)
NO_PAYMENT: dict[str, Any] = {"inpay_1": None}
UNPAID: dict[str, Any] = {"in_1": {"status": "open", "amount_paid": 0}, **NO_PAYMENT}
BY_CREDIT = {"in_1": {"amount_paid": 0, "starting_balance": -900, "ending_balance": 0}, **NO_PAYMENT}
GRANT = {"type": "credit_balance_transaction", "amount": 200}


def stripe(changes: dict[str, Any], *, unlisted: tuple[str, ...] = ()) -> Any:
    """Stripe as above, with these fields of its objects changed; None is for what there is not."""
    fake = FakeStripe()
    fake.unlisted |= set(unlisted)
    for id_ in {**STRIPE, **changes}:
        if (changed := changes.get(id_, {})) is not None:
            fake.put({"id": id_, **STRIPE.get(id_, {}), **changed})
    return fake


def with_payment(**fields: Any) -> Bill:
    """The bill, with these fields of its payment."""
    return replace(BILL, payments=(replace(PAID, **fields),))


@pytest.mark.parametrize(
    ("changes", "bill"),
    [
        ({}, BILL),
        # nothing was taken
        (UNPAID, None),
        ({"in_1": {"status": "draft", "total_pretax_credit_amounts": [GRANT], "amount_paid": 0}, **NO_PAYMENT}, None),
        ({**UNPAID, "in_1": {"status": "void", "amount_paid": 0}, "cbtxn_1": moved(900)}, None),  # the list lags
        ({"in_1": {"status": "open", "amount_paid": 0}, "inpay_1": {"status": "canceled"}}, None),
        ({"in_1": {"amount_paid": 0}, "inpay_1": {"amount_paid": 0}}, None),
        ({"in_1": {"amount_paid": 0}, "inpay_1": {"amount_paid": None}}, None),
        ({"in_1": {"amount_paid": 1}, "inpay_1": {"amount_paid": 1}}, with_payment(amount=1)),
        ({**UNPAID, "in_1": {"status": "open", "amount_paid": 0, "total_pretax_credit_amounts": None}}, None),
        # payments
        ({"inpay_1": {"payment": {"payment_intent": {"id": "pi_1"}}}}, BILL),
        ({"pi_1": {"latest_charge": {"id": "ch_1"}}}, BILL),
        ({"inpay_1": {"payment": {"charge": "ch_1"}}}, with_payment(target={"charge": "ch_1"})),
        ({"ch_1": {"amount_captured": 1500}}, with_payment(charged=1500)),
        ({"ch_1": None}, with_payment(charged=0)),
        (
            {"in_1": {"status": "open", "amount_paid": 0}, "inpay_1": {"status": "open", "amount_paid": None}}
            | {"pi_1": {"status": "processing"}},
            replace(with_payment(charged=None), status="open"),  # a debit
        ),
        (
            {"in_1": {"status": "open", "amount_paid": 0}, "inpay_1": {"status": "open", "amount_paid": None}}
            | {"pi_1": {"status": "requires_payment_method"}},
            None,
        ),
        ({"in_1": {"status": "uncollectible"}}, replace(BILL, status="uncollectible")),
        ({"in_1": {"currency": "eur"}}, replace(BILL, currency="eur")),
        # refunds and disputes
        (
            {"re_1": refund(300), "re_2": refund(600, "failed", failure_reason="lost_or_stolen_card")},
            with_payment(
                refunds=(Refund("re_1", 300, "succeeded"), Refund("re_2", 600, "failed", "lost_or_stolen_card"))
            ),
        ),
        ({"re_1": refund(300, charge="ch_2")}, BILL),
        (
            {"du_1": {"object": "dispute", "charge": "ch_1", "amount": 900, "status": "lost"}},
            with_payment(disputes=(Dispute("du_1", 900, "lost"),)),
        ),
        # outside Stripe
        ({"in_1": {}, **NO_PAYMENT}, replace(BILL, payments=(), outside=900)),
        ({"in_1": {"amount_paid": 0, "amount_due": 900}, **NO_PAYMENT}, replace(BILL, payments=(), outside=900)),
        ({"inpay_1": {"payment": {"type": "out_of_band"}}}, replace(BILL, payments=(), outside=900)),
        ({"in_1": {"amount_paid": 1000}}, replace(BILL, outside=100)),
        (
            {"in_1": {"status": "open", "amount_paid": 100}, "inpay_1": {"status": "open", "amount_paid": None}}
            | {"pi_1": {"status": "processing"}},
            replace(with_payment(charged=None), status="open", outside=100),  # what is on its way is not among it
        ),
        # credit, debts, grants, notes
        (BY_CREDIT, replace(BILL, payments=(), credit=900)),
        ({"in_1": {"amount_paid": 0}, **NO_PAYMENT, "cbtxn_1": moved(900)}, replace(BILL, payments=(), credit=900)),
        ({"in_1": {"amount_paid": 0}, **NO_PAYMENT, "cbtxn_1": moved(900, invoice="in_2")}, None),
        ({"in_1": {"amount_paid": 0}, **NO_PAYMENT, "cbtxn_1": moved(900, "adjustment")}, None),
        (
            {"in_1": {"amount_paid": 0}, **NO_PAYMENT, "cbtxn_1": moved(900)}
            | {"cbtxn_2": moved(-900, "unapplied_from_invoice")},
            None,
        ),
        ({"in_1": {"starting_balance": 100}}, replace(BILL, debt=100)),
        ({"cbtxn_1": moved(-100)}, replace(BILL, debt=100)),
        ({"in_1": {"starting_balance": -100}}, BILL),
        ({"in_1": {"total_pretax_credit_amounts": [GRANT, GRANT]}}, replace(BILL, grants=400)),
        ({"in_1": {"total_pretax_credit_amounts": [{**GRANT, "type": "discount"}]}}, BILL),
        ({"in_1": {"total_pretax_credit_amounts": [{**GRANT, "amount": 0}]}}, BILL),
        ({"in_1": {"post_payment_credit_notes_amount": 250}}, replace(BILL, noted=250)),
        # what it bills
        ({"in_1": lines(line(ENDED + 1))}, BILL),
        ({"in_1": lines(line(ENDED))}, OF_BEFORE),
        ({"in_1": lines(line(ENDED), line())}, replace(BILL, over=True)),  # the use of the month before
        ({"in_1": lines(line(ENDED, amount=0), line())}, BILL),
        ({"in_1": lines(line(), line(by="invoice_item"))}, BILL),
        ({"in_1": lines(line(), line(of="sub_1", by="invoice_item"))}, replace(BILL, foreign=True)),
        ({"in_1": lines(line(), {"amount": 5, "period": {"end": ENDED}, "parent": None})}, replace(BILL, foreign=True)),
        ({"in_1": lines(line(), line(of="sub_1", amount=0))}, BILL),
        ({"in_1": lines(line(), has_more=True)}, replace(BILL, foreign=True)),
        ({"in_1": lines(line(of="sub_1"))}, replace(BILL, current=False, foreign=True)),
        ({"sub_2": {"ended_at": None, "canceled_at": ENDED}, "in_1": lines(line(ENDED))}, OF_BEFORE),
        ({"sub_2": {"canceled_at": START + DAY}, "in_1": lines(line(ENDED))}, OF_BEFORE),  # it went on until it ended
        # a subscription that is older than the one that stays
        ({"sub_1": {"created": START + 61}}, BILL),
        ({"sub_1": {"created": START + 61}, "in_1": lines(line(ENDED))}, None),
        ({"sub_1": {"created": START + 60}, "in_1": lines(line(ENDED))}, OF_BEFORE),
        ({"sub_1": None, "in_1": lines(line(ENDED))}, OF_BEFORE),
        # Stripe knows nothing of it any more
        ({"sub_2": None, "in_1": None, **NO_PAYMENT}, None),
    ],
)  # fmt: skip
def test_bill_is_what_stripe_shows_of_the_money(changes: dict[str, Any], bill: Bill | None) -> None:
    """SUB-19, SUB-112, SUB-115"""
    assert read_bills(REMEDY, [], stripe=stripe(changes)) == ([bill] if bill else [])


@pytest.mark.parametrize(
    ("changes", "unlisted", "row", "bill"),
    [
        (
            {"re_1": refund(900)},
            ("re_1",),
            row("inpay_1", "re_1"),
            with_payment(refunds=(Refund("re_1", 900, "succeeded"),)),
        ),
        ({"re_1": refund(900)}, (), row("inpay_1", "re_1"), with_payment(refunds=(Refund("re_1", 900, "succeeded"),))),
        ({"re_1": refund(900)}, ("re_1",), row("inpay_2", "re_1"), BILL),
        ({}, (), row("inpay_1", "re_1"), BILL),
        ({}, (), row("inpay_1", None), BILL),
        (BY_CREDIT, (), row("in_1", "cbtxn_9", Kind.CREDIT, 300), replace(BILL, payments=(), credit=900, credited=300)),
        (BY_CREDIT, (), row("in_1", None, Kind.CREDIT), replace(BILL, payments=(), credit=900)),
        (BY_CREDIT, (), row("in_2", "cbtxn_9", Kind.CREDIT), replace(BILL, payments=(), credit=900)),
        (BY_CREDIT, (), row("in_1", "cbtxn_9"), replace(BILL, payments=(), credit=900)),
    ],
)
def test_what_we_were_answered_counts_where_a_list_lacks_it(
    changes: dict[str, Any], unlisted: tuple[str, ...], row: Repayment, bill: Bill
) -> None:
    """SUB-113: of this payment, and of this invoice's credit."""
    assert read_bills(REMEDY, [row], stripe=stripe(changes, unlisted=unlisted)) == [bill]


@pytest.mark.parametrize(
    ("mark", "credited"),
    [(mark_of(REMEDY, "in_1"), 300), (mark_of(REMEDY, "in_2"), 0), (mark_of(replace(REMEDY, nonce="n"), "in_1"), 0)],
)
def test_credit_that_the_list_shows_with_our_mark_is_back(mark: str, credited: int) -> None:
    """SUB-113: whatever became of the answer, and once where both say so."""
    given = moved(-300, "adjustment", invoice=None, metadata={"onelane_repayment": mark})
    known = stripe({**BY_CREDIT, "cbtxn_1": given})
    for rows, back in (([], credited), ([row("in_1", "cbtxn_1", Kind.CREDIT, 300)], 300)):
        [bill] = read_bills(REMEDY, rows, stripe=known)
        assert (bill.credit, bill.credited) == (900, back)


@pytest.mark.parametrize("latest", ["in_2", {"id": "in_2"}])
def test_latest_invoice_that_the_list_lacks_is_read_by_its_id(latest: Any) -> None:
    """SUB-19: and the one before it."""
    newest = {**STRIPE["in_1"], **lines(line()), "amount_paid": 100}
    known = stripe({"sub_2": {"latest_invoice": latest}, "in_2": newest}, unlisted=("in_2",))
    found = read_bills(REMEDY, [], stripe=known)
    assert [(bill.id, bill.outside) for bill in found] == [("in_2", 100), ("in_1", 0)]
