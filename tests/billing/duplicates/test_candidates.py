"""What the policy decides from, as Stripe has it: invoices, the running period, a card, and what is sold."""

from datetime import timedelta
from typing import Any

import pytest

from billing.duplicates.candidates import read_candidates
from billing.duplicates.policy import Standing, decide
from tests.support.builders import CATALOG, NOON, build_subscription, stamp
from tests.support.fakes import FakeStripe


def read(*subscriptions: dict[str, Any], customer: dict[str, Any] | None = None, doubted: Any = ()) -> Any:
    """The candidates; beside these there is one that was made last and is active."""
    stripe: Any = FakeStripe()
    stripe.put({"id": "cus_1", "object": "customer", **(customer or {})})
    last = build_subscription("sub_last", created=stamp(NOON) + 9)
    found = read_candidates([*subscriptions, last], stripe=stripe, catalog=CATALOG, doubted=doubted)
    return found, stripe


CARD = {"invoice_settings": {"default_payment_method": "pm_1"}}


@pytest.mark.parametrize(
    ("fields", "customer", "has_card"),
    [
        ({"status": "trialing"}, {}, False),
        ({"status": "trialing"}, {"invoice_settings": None, "default_source": None}, False),
        ({"status": "trialing"}, CARD, True),
        ({"status": "trialing"}, {"default_source": "src_1"}, True),
        ({"status": "trialing", "default_payment_method": "pm_1"}, {}, True),
        ({"status": "trialing", "default_source": "src_1"}, {}, True),
        ({"status": "trialing", "collection_method": "send_invoice"}, CARD, False),
        ({"status": "trialing", "collection_method": "charge_automatically"}, CARD, True),
        ({"status": "trialing", "customer": {"id": "cus_1"}}, CARD, True),
        ({"status": "trialing", "customer": "cus_2"}, CARD, False),  # whom Stripe does not have
        ({"status": "active"}, {}, True),
    ],
)
def test_trial_has_a_card_by_itself_or_by_its_customer(
    fields: dict[str, Any], customer: dict[str, Any], has_card: bool
) -> None:
    """SUB-68: of an active one nobody asks."""
    [candidate, last], stripe = read(build_subscription(**fields), customer=customer)
    assert (candidate.has_card, last.has_card) == (has_card, True)
    assert stripe.calls["get_customer"] <= (fields["status"] == "trialing")


def test_single_one_is_read_no_further() -> None:
    """SUB-79: nor what is over, or another product's."""
    over = build_subscription("sub_2", status="canceled")
    other = build_subscription("sub_3", metadata={}, price="price_elsewhere")
    found, stripe = read(over, other)
    assert [one.id for one in found] == ["sub_last"]
    assert not stripe.calls


def test_each_one_has_its_own_invoices_period_and_doubts() -> None:
    """SUB-16, SUB-117: oldest first."""
    older = build_subscription("sub_1", price="price_elsewhere")
    stripe: Any = FakeStripe()

    def invoice(id: str, of: str, starts: Any) -> dict[str, Any]:
        line = {
            "period": {"start": stamp(starts)},
            "parent": {"subscription_item_details": {"subscription_item": f"si_{of}"}},
        }
        return {"id": id, "object": "invoice", "subscription": of, "status": "paid", "lines": {"data": [line]}}

    before = NOON - timedelta(days=30)
    stripe.put(invoice("in_1", "sub_1", NOON), invoice("in_2", "sub_2", NOON), invoice("in_3", "sub_2", before))
    newer = build_subscription("sub_2", created=stamp(NOON) + 1)
    found = read_candidates([newer, older], stripe=stripe, catalog=CATALOG, doubted={"sub_2"})
    seen = [
        (
            one.id,
            [bill["id"] for bill in one.invoices],
            [bill["id"] for bill in one.period],
            one.is_sold,
            one.doubted,
        )
        for one in found
    ]
    assert seen == [
        ("sub_1", ["in_1"], ["in_1"], False, False),
        ("sub_2", ["in_2", "in_3"], ["in_2"], True, True),
    ]


@pytest.mark.parametrize(
    ("status", "before", "comes", "standing"),
    [
        ("past_due", {"status": "paid", "amount_paid": 900}, True, Standing.OPEN),
        ("past_due", {"status": "open"}, True, Standing.STOPPED),
        ("active", {"status": "paid", "amount_paid": 900}, True, Standing.PAYS),
        # a draft that Stripe does not finalize: it was made while the subscription is unpaid, or paused
        ("unpaid", {"status": "open"}, False, Standing.STOPPED),
        ("active", {"status": "paid", "amount_paid": 900}, False, Standing.FREE),
    ],
)
def test_while_the_renewal_is_a_draft_the_invoice_before_it_decides(
    status: str, before: dict[str, Any], comes: bool, standing: Standing
) -> None:
    """SUB-16, SUB-141: so one that owes something small is not canceled in that hour, either."""

    def invoice(id: str, of: str, starts: Any, **fields: Any) -> dict[str, Any]:
        item = {"subscription_item": f"si_{of}", "proration": False}
        line = {"period": {"start": stamp(starts)}, "parent": {"subscription_item_details": item}}
        made = {"id": id, "object": "invoice", "subscription": of, "created": stamp(starts), "lines": {"data": [line]}}
        return made | fields

    month = timedelta(days=30)
    paid = {"status": "paid", "amount_paid": 900}
    stripe: Any = FakeStripe()
    stripe.put(
        invoice("in_0", "sub_1", NOON - 2 * month, **paid),
        invoice("in_1", "sub_1", NOON - month, **before),
        invoice("in_2", "sub_1", NOON, status="draft", auto_advance=comes),
        invoice("in_3", "sub_2", NOON, **paid),
    )
    older, newer = build_subscription(status=status), build_subscription("sub_2", created=stamp(NOON) + 1)
    candidates = read_candidates([older, newer], stripe=stripe, catalog=CATALOG, doubted=())
    assert [one.standing() for one in candidates] == [standing, Standing.PAYS]
    assert ("sub_1" in decide(candidates, CATALOG).cancel) == (standing is Standing.STOPPED)
