"""What is still owed for a canceled duplicate: what to send, what to wait for, and what a person must finish. Pure.

One `Bill` is one invoice with everything that happened to its money at Stripe, whoever did it. Nothing owed means that
the money is back. A refund counts when it has succeeded; until then it is waited for (SUB-110). What Stripe shows
decides, never what was sent.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from billing.rules.money import in_words


class Verdict(StrEnum):
    """Who does the next thing about it."""

    SEND = "send"  # we
    WAIT = "wait"  # Stripe, or a bank
    PERSON = "person"


class Kind(StrEnum):
    """How money goes back."""

    REFUND = "refund"  # of a payment, to where it came from
    CREDIT = "credit"  # to the customer's credit balance, from which it was taken


@dataclass(frozen=True, slots=True)
class Owed:
    """A part of the money that is not back. `kind`, `source` and `target` say what to send."""

    verdict: Verdict
    amount: int  # in the smallest unit
    currency: str
    sentence: str
    kind: Kind = Kind.REFUND
    source: str = ""  # the invoice's payment, or the invoice
    target: Mapping[str, str] | None = None  # {"payment_intent": "pi_…"}, for one


@dataclass(frozen=True, slots=True)
class Refund:
    id: str
    amount: int
    status: str
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class Dispute:
    id: str
    amount: int
    status: str


@dataclass(frozen=True, slots=True)
class Payment:
    """A payment of an invoice by Stripe. `charged` is what the charge took, and None while it is on its way."""

    id: str
    target: Mapping[str, str]
    amount: int
    charged: int | None
    refunds: tuple[Refund, ...] = ()
    disputes: tuple[Dispute, ...] = ()

    @property
    def name(self) -> str:
        """Its id at Stripe, for an operator."""
        return next(iter(self.target.values()))


@dataclass(frozen=True, slots=True)
class Bill:
    """An invoice of the canceled subscription, and its money. Amounts are in the smallest unit.

    `current`: it bills the period that was running at the end. `over`: also one that was over by then, such as the use
    of the month before. `foreign`: it bills something else, too.
    """

    id: str
    currency: str
    status: str = "paid"
    current: bool = True
    over: bool = False
    foreign: bool = False
    payments: tuple[Payment, ...] = ()
    outside: int = 0  # paid, but not by a payment of Stripe's
    credit: int = 0  # taken from the customer's credit balance
    credited: int = 0  # given back to it by us
    debt: int = 0  # what the customer owed before and was billed with it
    grants: int = 0  # paid by billing credits
    noted: int = 0  # credit notes after the payment

    @property
    def took(self) -> bool:
        """Whether any money was taken by it."""
        return bool(self.outside or self.credit or self.grants or any(payment.amount for payment in self.payments))


# A dispute in one of these is over. In any other one, also in one that Stripe adds, the money may move by the bank.
_OVER = frozenset({"won", "lost", "warning_closed"})
_FAILED = frozenset({"failed", "canceled"})
_SETTLED = _FAILED | {"succeeded"}  # any other one is waited for, also one that Stripe adds


def judge(bill: Bill) -> list[Owed]:
    """What of this bill's money is not back, in the order of its payments; empty when all of it is."""
    owed = [each for payment in bill.payments for each in _of_payment(payment, bill)]
    credit = bill.credit - bill.credited
    if credit > 0:
        owed.append(_of_credit(credit, bill))
    if bill.outside > 0:
        owed.append(_person(bill.outside, bill, f"of {bill.id} was paid outside Stripe: pay it back the same way"))
    if bill.grants > 0:
        owed.append(_person(bill.grants, bill, f"of {bill.id} was paid by billing credits: grant them again"))
    return owed


def _of_payment(payment: Payment, bill: Bill) -> Iterator[Owed]:
    if payment.charged is None:
        waits = f"{payment.name} of {_words(payment.amount, bill)} is on its way; it is refunded when it has arrived"
        yield Owed(Verdict.WAIT, payment.amount, bill.currency, waits)
        return
    for refund in payment.refunds:
        if refund.status not in _SETTLED:
            yield Owed(Verdict.WAIT, refund.amount, bill.currency, _of_waiting(refund, bill))
    back = sum(refund.amount for refund in payment.refunds if refund.status not in _FAILED)
    back += sum(dispute.amount for dispute in payment.disputes if dispute.status == "lost")  # by the bank
    missing = payment.amount - back
    if missing <= 0:
        return
    if (reason := _held(payment, bill)) is not None:
        yield _person(missing, bill, f"of {payment.name}: {reason}")
        return
    words = f"{_words(missing, bill)} of {payment.name} is to be refunded"
    yield Owed(Verdict.SEND, missing, bill.currency, words, Kind.REFUND, payment.id, payment.target)


def _held(payment: Payment, bill: Bill) -> str | None:
    """Why we do not refund what is missing of a payment; None where we do."""
    disputed = next((dispute for dispute in payment.disputes if dispute.status not in _OVER), None)
    if disputed is not None and disputed.status == "prevented":
        return f"a dispute was prevented ({disputed.id}), mostly by paying it back: look whether the buyer has it"
    if disputed is not None:
        return f"disputed ({disputed.id}, {disputed.status}), so the bank may take it: answer the dispute"
    failed = next((refund for refund in payment.refunds if refund.status in _FAILED), None)
    if failed is not None:
        why = f" ({failed.failure})" if failed.failure else ""
        how = "pay it back another way, then resolve the incident"
        return f"refund {failed.id} of {_words(failed.amount, bill)} is {failed.status}{why}: {how}"
    if payment.charged != payment.amount:
        return f"the charge is over {_words(payment.charged or 0, bill)}, not all for this invoice: refund by hand"
    return _not_clear(bill)


def _not_clear(bill: Bill) -> str | None:
    """Why what this bill took is not given back by itself; None where it is."""
    if not bill.current:
        return f"invoice {bill.id} is of an earlier period: refund it, or resolve the incident"
    if bill.over:
        return f"invoice {bill.id} bills a period that was over, too: refund the part that was not used"
    if bill.foreign:
        return f"invoice {bill.id} bills something else, too: refund the part that is the duplicate's"
    if bill.debt:
        return f"invoice {bill.id} has {_words(bill.debt, bill)} in it that the customer owed before: refund the rest"
    if bill.noted:
        return f"invoice {bill.id} has credit notes over {_words(bill.noted, bill)}: look what they gave back"
    return None


def _of_credit(missing: int, bill: Bill) -> Owed:
    reason = _not_clear(bill)
    if bill.status != "paid":
        reason = f"invoice {bill.id} is {bill.status}: void it, and Stripe gives the credit back"
    if reason is not None:
        return _person(missing, bill, f"of the customer's credit in {bill.id}: {reason}")
    words = f"{_words(missing, bill)} of credit in {bill.id} is to be given back"
    return Owed(Verdict.SEND, missing, bill.currency, words, Kind.CREDIT, bill.id)


def _of_waiting(refund: Refund, bill: Bill) -> str:
    why = "the buyer has to answer Stripe" if refund.status == "requires_action" else "Stripe has not sent it yet"
    return f"refund {refund.id} of {_words(refund.amount, bill)} is {refund.status}: {why}"


def _person(amount: int, bill: Bill, what: str) -> Owed:
    return Owed(Verdict.PERSON, amount, bill.currency, f"{_words(amount, bill)} {what}")


def _words(amount: int, bill: Bill) -> str:
    return in_words(amount, bill.currency)


def describe(owed: Iterable[Owed]) -> str:
    """What is owed, as the reason of an incident."""
    return "; ".join(each.sentence for each in owed)
