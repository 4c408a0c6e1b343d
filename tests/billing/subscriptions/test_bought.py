"""What a period was paid for, while a change of price or quantity since then is not paid (SUB-121)."""

from typing import Any

import pytest

from billing.subscriptions.invoices import Payment, judge
from billing.subscriptions.payment_status import fetch_money
from billing.subscriptions.projection import plan_item, project
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.fakes import FakeStripe
from tests.support.invoices import (
    BEFORE,
    CUT_OFF,
    DAY,
    MAILED,
    NOW,
    WRITTEN_OFF,
    add_on,
    invoice,
    line,
    small,
)

DEAR = "price_kiloclaw_commit"


def change(status="open", *, at=NOON + 2 * DAY, price=DEAR, quantity=1, amount=500, **parent) -> dict[str, Any]:
    """An invoice for a change in the middle of a period: the unused time back, the rest of it at the new price."""
    unused, rest = line(at, proration=True), line(at, price=price, proration=True)
    unused, rest = {**unused, "amount": -300, "quantity": 1}, {**rest, "amount": amount, "quantity": quantity}
    return invoice(status, unused, {**rest, **parent}, at=at, total=amount - 300)


BY_ITEM = {"parent": {"invoice_item_details": {"invoice_item": "ii_1", "proration": True}}}
BOUGHT = invoice("paid", {**line(), "amount": 900, "quantity": 1})


@pytest.mark.parametrize(
    ("item", "invoices", "shown"),
    [
        # another plan, and it is not paid
        ({"price": {"id": DEAR}}, [BOUGHT, change()], ("standard", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change(**BY_ITEM)], ("standard", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, {**change("uncollectible"), **WRITTEN_OFF}], ("standard", 1)),
        # seats
        ({"quantity": 50}, [BOUGHT, change(price="price_kiloclaw_standard", quantity=50)], ("standard", 1)),
        # seats in tiers, each with a line
        (
            {"quantity": 50},
            [
                invoice("paid", *({**line(), "amount": 500, "quantity": each} for each in (5, 3))),
                change(price="price_kiloclaw_standard", quantity=50),
            ],
            ("standard", 8),
        ),
        # of what was paid, the plan's line did not come: what is given back says what it was
        ({"price": {"id": DEAR}}, [{**invoice("paid"), **CUT_OFF}, change()], ("standard", 1)),
        # something else is not paid
        ({"price": {"id": DEAR}}, [BOUGHT, change("paid"), add_on("open", at=NOON + 3 * DAY)], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, add_on("open")], ("commit", 1)),  # a gift of support's
        ({"price": {"id": DEAR}}, [BOUGHT, change(price="price_addon")], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change("void"), add_on("open", at=NOON + 3 * DAY)], ("commit", 1)),
        ({"price": {"id": DEAR}}, [BOUGHT, change("uncollectible"), add_on("open", at=NOW)], ("commit", 1)),
        # the second of two changes is not paid
        (
            {"price": {"id": DEAR}, "quantity": 9},
            [BOUGHT, change("paid", quantity=2), change(at=NOON + 3 * DAY, quantity=9)],
            ("commit", 2),
        ),
    ],
)
def test_plan_and_quantity_are_what_the_period_was_paid_for(item, invoices, shown):
    """SUB-121: a change whose invoice is not paid gives nothing before it is."""
    built = build_subscription(status="past_due", item=item)
    for order in (invoices, invoices[::-1]):
        money = judge(built, plan_item(built, CATALOG), order, CATALOG, now=NOW)
        assert money.payment is Payment.PAID
        row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
        assert (row.plan, row.quantity) == shown


@pytest.mark.parametrize(
    ("invoices", "plan"),
    [
        # the status is a later invoice's, and the change is not paid
        ([BOUGHT, change(), add_on("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, change(), small("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, {**change("uncollectible"), **WRITTEN_OFF}, add_on("paid", at=NOON + 3 * DAY)], "standard"),
        ([BOUGHT, {**change(), "due_date": stamp(NOON + 3 * DAY)}, add_on("paid", at=NOON + 3 * DAY)], "standard"),
        # it has not failed
        ([BOUGHT, change()], "commit"),  # by a debit, say: the status is its own
        ([BOUGHT, {**change(), **MAILED}, add_on("paid", at=NOON + 3 * DAY)], "commit"),
        ([BOUGHT, change("void"), add_on("paid", at=NOON + 3 * DAY)], "commit"),
        ([BOUGHT, change("paid"), add_on("paid", at=NOON + 3 * DAY)], "commit"),
        # the period is not paid at all
        ([BEFORE, invoice("open"), change(), add_on("paid", at=NOON + 3 * DAY)], "commit"),
    ],
)
def test_change_that_is_not_paid_gives_nothing_to_who_is_active_by_something_else(invoices, plan):
    """SUB-121: another card paid something small, and Stripe calls the subscription active."""
    built = build_subscription(item={"price": {"id": DEAR}})
    for order in (invoices, invoices[::-1]):
        money = judge(built, plan_item(built, CATALOG), order, CATALOG, now=NOW)
        row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
        assert row.plan == plan


def test_paid_price_that_is_not_sold_names_no_plan():
    """SUB-121: the plan is that of its price then."""
    built = build_subscription(status="past_due", item={"price": {"id": DEAR}})
    paid = invoice("paid", {**line(price="price_of_old"), "amount": 900, "quantity": 1})
    money = judge(built, plan_item(built, CATALOG), [paid, change()], CATALOG, now=NOW)
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
    assert row.plan == "commit"


@pytest.mark.parametrize(("failed", "plan"), [(True, "standard"), (False, "commit")])
def test_change_on_its_way_does_not_bring_one_that_failed_before(failed: bool, plan: str) -> None:
    """SUB-121: two changes to the same price; the later one's debit takes days, and a card pays something small."""
    first, second = ({**change(at=NOON + days * DAY), "id": f"in_{days}"} for days in (1, 2))
    stripe: Any = FakeStripe()
    billed = [BOUGHT, *([first] if failed else []), second, add_on(at=NOON + 3 * DAY)]
    stripe.put(*({**one, "object": "invoice", "subscription": "sub_1"} for one in billed))
    stripe.put(
        {
            "id": "inpay_2",
            "object": "invoice_payment",
            "invoice": "in_2",
            "status": "open",
            "payment": {"payment_intent": "pi_2"},
        },
        {"id": "pi_2", "object": "payment_intent", "status": "processing"},
    )
    built = build_subscription(item={"price": {"id": DEAR}}, latest_invoice="in_3")
    money = fetch_money([built], with_disputes=False, catalog=CATALOG, stripe=stripe, at=lambda _: NOW)["sub_1"]
    row = project(built, customer_id="cus_1", catalog=CATALOG, schedule=None, before=None, now=NOW, money=money)
    assert row.plan == plan
