"""What was disputed or paid back of the running period, as a table of what Stripe has. In memory."""

from datetime import timedelta
from typing import Any

import pytest

from billing.errors import StripeMissing
from billing.subscriptions.invoices import Money, Payment
from billing.subscriptions.payment_status import fetch_money
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.fakes import FakeStripe, failing

Json = dict[str, Any]
BEFORE, LATER = NOON - timedelta(days=30), NOON + timedelta(days=2)


def invoice(number: int, status: str = "paid", starts: Any = NOON, at: Any = None, of: str = "sub_1") -> Json:
    """An invoice for a period of the plan."""
    item = {"subscription_item": f"si_{of}"}
    line = {"period": {"start": stamp(starts)}, "parent": {"subscription_item_details": item}}
    made = {"id": f"in_{number}", "object": "invoice", "subscription": of, "status": status, "total": 900}
    return made | {"created": stamp(at or starts), "lines": {"data": [line]}}


def payment(number: int, invoice: int = 1, status: str = "paid", **by: Any) -> list[Json]:
    """A payment by card, its intent and its charge."""
    by = by or {"payment_intent": f"pi_{number}"}
    made = {"id": f"inpay_{number}", "object": "invoice_payment", "invoice": f"in_{invoice}", "status": status}
    intent = {"id": f"pi_{number}", "object": "payment_intent", "latest_charge": f"ch_{number}"}
    return [made | {"payment": by}, intent, charge(number)]


def charge(number: int = 1, **fields: bool) -> Json:
    """What a card was charged."""
    return {"id": f"ch_{number}", "object": "charge", "disputed": False, "refunded": False, **fields}


def dispute(status: str, number: int = 1) -> list[Json]:
    """A dispute of a charge."""
    made = {"id": f"du_{number}", "object": "dispute", "charge": f"ch_{number}", "status": status}
    return [charge(number, disputed=True), made]


RENEWAL = {"auto_advance": True}
BACK = charge(refunded=True)
CLEAN, DISPUTED, REFUNDED = (
    Money(disputed=False, refunded=False),
    Money(disputed=True, refunded=False),
    Money(disputed=False, refunded=True),
)


def read(*objects: Json, with_disputes: bool = True, **fields: Any) -> tuple[Money | None, FakeStripe]:
    """The money of one subscription; a later object takes the place of one before."""
    stripe: Any = FakeStripe()
    stripe.put(*objects)
    subscription = build_subscription(**{"latest_invoice": "in_1", **fields})
    found = fetch_money([subscription], with_disputes=with_disputes, catalog=CATALOG, stripe=stripe, at=lambda _: LATER)
    return found.get("sub_1"), stripe


@pytest.mark.parametrize(
    ("objects", "money"),
    [
        ([invoice(1), *payment(1)], CLEAN),
        ([invoice(1), *payment(1), *dispute("needs_response")], DISPUTED),
        ([invoice(1), *payment(1), *dispute("under_review")], DISPUTED),
        ([invoice(1), *payment(1), *dispute("lost")], DISPUTED),
        ([invoice(1), *payment(1), *dispute("won")], CLEAN),
        ([invoice(1), *payment(1), *dispute("warning_needs_response")], CLEAN),
        ([invoice(1), *payment(1), BACK], REFUNDED),
        # by a charge without an intent, or with either expanded
        ([invoice(1), *payment(1, charge="ch_1"), BACK], REFUNDED),
        ([invoice(1), *payment(1, charge={"id": "ch_1"}), BACK], REFUNDED),
        ([invoice(1), *payment(1, payment_intent={"id": "pi_1"}), BACK], REFUNDED),
        # outside Stripe
        ([invoice(1), *payment(1, type="out_of_band"), BACK], CLEAN),
        ([invoice(1)], CLEAN),
        # several payments: one dispute is enough, and all have to be back
        ([invoice(1), *payment(1), *payment(2), *dispute("lost", 2)], DISPUTED),
        ([invoice(1), *payment(1), *payment(2), BACK], CLEAN),
        ([invoice(1), *payment(1), *payment(2), BACK, charge(2, refunded=True)], REFUNDED),
        ([invoice(1), *payment(1), *payment(2, status="canceled"), *dispute("lost", 2)], CLEAN),
        ([invoice(1), *payment(1), *payment(2, status="open"), BACK], REFUNDED),
        # of other periods
        ([invoice(1), *payment(1), invoice(2, starts=BEFORE), *payment(2, 2), *dispute("lost", 2)], CLEAN),
        ([invoice(1), *payment(1), *dispute("lost"), invoice(2, at=LATER), *payment(2, 2)], CLEAN),  # billed anew
        ([invoice(1), *payment(1), *dispute("lost"), invoice(2, "open", at=LATER)], Money()),  # and not paid: unknown
        ([invoice(1, "open"), invoice(2, starts=BEFORE), *payment(2, 2), *dispute("lost", 2)], Money()),
        # it was voided: something small that was paid back is not what paid it
        ([invoice(2, "void"), invoice(1, at=LATER) | {"lines": {}}, *payment(1), BACK], Money()),
        # while the renewal's is a draft, the one before decides
        ([invoice(1, "draft") | RENEWAL, invoice(2, starts=BEFORE), *payment(2, 2), *dispute("lost", 2)], DISPUTED),
        ([invoice(1, "draft"), invoice(2, starts=BEFORE), *payment(2, 2), *dispute("lost", 2)], Money()),
        # no line says what it is for: then the latest one counts
        ([{**invoice(1), "lines": None}, *payment(1), BACK, {**invoice(2), "lines": None}], REFUNDED),
        ([{**invoice(2), "lines": None}, *payment(2, 2), charge(2, refunded=True)], Money()),
        ([], Money()),
    ],
)  # fmt: skip
def test_disputes_and_refunds_count_of_what_paid_the_running_period(objects: list[Json], money: Money) -> None:
    """SUB-60, SUB-61"""
    assert read(*objects)[0] == money
    assert read(*objects, latest_invoice={"id": "in_1"})[0] == money


@pytest.mark.parametrize(
    ("fields", "with_disputes", "asked"),
    [
        ({"latest_invoice": invoice(1)}, False, set()),
        ({"latest_invoice": invoice(1)}, True, {"list_invoices", "list_invoice_payments", "get_charge"}),
        ({"latest_invoice": None}, True, set()),
        ({"status": "past_due"}, False, {"list_invoices"}),
        ({"status": "canceled"}, True, None),
        ({"metadata": {}, "price": "price_elsewhere"}, True, None),
    ],
)
def test_no_more_is_asked_than_is_needed(fields: Json, with_disputes: bool, asked: set[str] | None) -> None:
    """SUB-79: nothing of what is over, or of another product."""
    money, stripe = read(invoice(1), *payment(1, charge="ch_1"), with_disputes=with_disputes, **fields)
    assert set(stripe.calls) == (asked or set())
    assert (money is None) == (asked is None)


@pytest.mark.parametrize("decides", [[], [invoice(3, "draft") | RENEWAL]])
def test_first_debit_on_its_way_has_not_failed_while_the_renewal_is_a_draft_either(decides: list[Json]) -> None:
    """SUB-78, SUB-141: something small was paid meanwhile."""
    first = invoice(1, "open", BEFORE if decides else NOON)
    beside = invoice(2, at=LATER) | {"lines": {"data": []}}
    way = payment(1, status="open")
    way[1] |= {"status": "processing"}
    money, _ = read(first, beside, *decides, *way, with_disputes=False, latest_invoice="in_2")
    assert money is not None
    assert money.payment is Payment.FIRST_PENDING
    way[1] |= {"status": "requires_payment_method"}
    money, _ = read(first, beside, *decides, *way, with_disputes=False, latest_invoice="in_2")
    assert money is not None
    assert money.payment is Payment.FIRST_FAILED


def test_subscription_whose_invoices_stripe_does_not_have_is_neither_disputed_nor_paid_back() -> None:
    """SUB-5"""
    stripe: Any = FakeStripe()
    stripe.before_arrival = failing(StripeMissing("no", status=404, stripe_code="resource_missing", param=None))
    built = build_subscription(latest_invoice="in_1")
    assert fetch_money([built], with_disputes=True, catalog=CATALOG, stripe=stripe, at=lambda _: LATER) == {
        "sub_1": Money()
    }


def test_each_subscription_has_its_own_money() -> None:
    """SUB-77: of two, in whatever order."""
    stripe: Any = FakeStripe()
    stripe.put(invoice(1, "open"), invoice(2, of="sub_2"), *payment(2, 2), charge(2, refunded=True))
    both = [build_subscription(f"sub_{number}", latest_invoice=f"in_{number}") for number in (1, 2)]
    for order in (both, both[::-1]):
        found = fetch_money(order, with_disputes=True, catalog=CATALOG, stripe=stripe, at=lambda _: LATER)
        assert found == {"sub_1": Money(Payment.FIRST_PENDING, found["sub_1"].past_due_since), "sub_2": REFUNDED}
