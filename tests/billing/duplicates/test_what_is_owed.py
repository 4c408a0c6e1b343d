"""What of a duplicate's bills is given back, and what is left to a person."""

from typing import Any

import pytest

from billing.errors import NotFound
from billing.operators.incident import resolve_incident
from billing.operators.listing import Wanted
from billing.operators.lookup import list_incidents
from tests.support.duplicates_world import Shop


@pytest.mark.parametrize("counted", [True, False])
def test_what_was_paid_outside_stripe_is_left_to_a_person(shop: Shop, counted: bool) -> None:
    """SUB-115: whether Stripe counts it as `amount_paid` or not, which is not documented."""
    customer = shop.customer()
    second = shop.another(customer, collection_method="send_invoice", days_until_due=7)
    shop.pay_open_invoices(second)
    if not counted:
        shop.sandbox.store.change("invoice", shop.invoice_of(second)["id"], amount_paid=0)
    shop.remedy(shop.found(customer))
    assert shop.states() == ["canceled"]
    assert "9.00 USD of in_" in shop.reason()
    assert "outside Stripe" in shop.reason()
    assert shop.objects("refund") == []


def test_bill_that_is_paid_after_its_subscription_was_canceled_is_paid_back(shop: Shop) -> None:
    """SUB-118: it was sent by mail, and Stripe leaves it open."""
    customer = shop.customer()
    second = shop.another(customer, collection_method="send_invoice", days_until_due=7)
    shop.remedy(shop.found(customer))
    assert (shop.states(), shop.open_incidents()) == (["nothing_to_refund"], {})
    shop.told()
    bill = shop.invoice_of(second)
    assert bill["status"] == "open"
    paid = shop.sandbox.request("POST", f"/v1/invoices/{bill['id']}/pay", {})
    assert (paid.status, paid.body["status"]) == (200, "paid")
    shop.told()
    assert (shop.states(), shop.refunded(second)) == (["refunded"], bill["amount_due"])
    assert shop.open_incidents() == {}


def test_what_a_person_refunded_in_part_is_completed(shop: Shop) -> None:
    """SUB-19: no more and no less than what was paid."""
    _, second, incident_id = shop.doubled()
    part = {"charge": shop.charge_of(second)["id"], "amount": 250}
    assert shop.sandbox.request("POST", "/v1/refunds", part).status == 200
    shop.remedy(incident_id)
    assert sorted(one["amount"] for one in shop.objects("refund")) == [250, 650]
    assert shop.states() == ["refunded"]


@pytest.mark.parametrize(
    ("status", "then", "state", "refunds"),
    [
        ("needs_response", None, "canceled", 0),
        ("warning_needs_response", None, "canceled", 0),
        ("needs_response", "won", "refunded", 1),
        ("needs_response", "lost", "refunded", 0),  # the bank gave it back
        ("warning_needs_response", "warning_closed", "refunded", 1),
    ],
)
def test_disputed_payment_is_not_refunded_before_the_bank_has_decided(
    shop: Shop, status: str, then: str | None, state: str, refunds: int
) -> None:
    """SUB-115"""
    customer = shop.customer()
    second = shop.another(customer)
    incident_id = shop.found(customer)
    shop.remedy_until_canceled(incident_id)
    charge = shop.charge_of(second)["id"]
    shop.sandbox.dispute(charge, status)
    shop.remedy(incident_id)
    assert (shop.states(), shop.objects("refund")) == (["canceled"], [])
    assert f"disputed ({shop.objects('dispute')[0]['id']}, {status})" in shop.reason()
    if then:
        shop.sandbox.dispute(charge, then)
        shop.told()
    assert (shop.states(), len(shop.objects("refund"))) == ([state], refunds)
    assert bool(shop.reason()) == (state == "canceled")


def test_several_payments_of_one_invoice_are_all_refunded(shop: Shop) -> None:
    """SUB-19: Stripe lets an invoice be paid by parts."""
    _, second, incident_id = shop.doubled()
    invoice, first = shop.invoice_of(second), shop.charge_of(second)
    [payment] = [one for one in shop.objects("invoice_payment") if one["invoice"] == invoice["id"]]
    [intent] = [one for one in shop.objects("payment_intent") if one["id"] == first["payment_intent"]]
    part = {"amount": 400, "amount_captured": 400, "amount_received": 400}
    by = payment["payment"] | {"payment_intent": "pi_part"}
    shop.sandbox.seed(
        [
            {**first, **part, "id": "ch_part", "payment_intent": "pi_part"},
            {**intent, **part, "id": "pi_part", "latest_charge": "ch_part"},
            {**payment, "id": "inpay_part", "amount_paid": 400, "payment": by},
        ]
    )
    shop.remedy(incident_id)
    assert sorted(one["amount"] for one in shop.objects("refund")) == [400, 900]
    assert shop.states() == ["refunded"]


def test_earlier_periods_of_a_duplicate_are_named_and_left_to_a_person(shop: Shop) -> None:
    """SUB-115: the running period goes back by itself."""
    customer = shop.customer()
    second = shop.another(customer)
    shop.clock.advance(days=33)
    shop.sandbox.tick()
    shop.remedy(shop.found(customer))
    assert [one["amount"] for one in shop.objects("refund")] == [900]
    assert shop.refunded(second) == 900
    assert "is of an earlier period" in shop.reason()
    old = [one for one in shop.objects("charge") if not one["refunded"] and one["amount"] == 900]
    for charge in old:
        shop.sandbox.request("POST", "/v1/refunds", {"charge": charge["id"]})
    shop.told()
    assert (shop.states(), shop.reason()) == (["refunded"], "")


def test_bill_for_two_periods_of_which_one_is_over_is_left_to_a_person(shop: Shop) -> None:
    """SUB-115: a month of the plan that was used up, and a year of something beside it."""
    year: dict[str, Any] = {"object": "price", "id": "price_support", "product": "prod_support", "currency": "usd"}
    year |= {"unit_amount": 5000, "recurring": {"interval": "year", "interval_count": 1}}
    shop.sandbox.seed([{"object": "product", "id": "prod_support", "name": "Support"}, year])
    customer = shop.customer()
    both = [{"price": shop.catalog.plans["standard"].price}, {"price": "price_support"}]
    second = shop.another(customer, items=both)
    shop.clock.advance(days=33)
    shop.sandbox.tick()
    shop.remedy(shop.found(customer))
    renewed, first = [one for one in shop.objects("invoice") if second in str(one["parent"])]
    assert [one["amount"] for one in shop.objects("refund")] == [900], "the running month, and no more"
    assert (renewed["amount_paid"], first["amount_paid"]) == (900, 5900)
    assert "59.00 USD of" in shop.reason()
    assert "refund the part that was not used" in shop.reason()


def test_what_an_older_one_took_before_there_was_another_is_no_concern(shop: Shop) -> None:
    """SUB-19: it was no duplicate then."""
    customer = shop.customer()
    [first] = shop.live(customer)
    shop.clock.advance(days=33)
    shop.sandbox.tick()
    shop.pay_no_more(first, "past_due")
    second = shop.another(customer)
    shop.remedy(shop.found(customer))
    assert shop.live(customer) == [second]
    assert shop.refunded(second) == 0
    assert shop.open_incidents() == {}


def test_person_who_paid_it_back_resolves_the_incident(shop: Shop) -> None:
    """SUB-116"""
    customer = shop.customer()
    second = shop.another(customer, collection_method="send_invoice", days_until_due=7)
    shop.pay_open_invoices(second)
    incident_id = shop.found(customer)
    shop.remedy(incident_id)
    resolve_incident(incident_id, reason="Sent back by bank.", database=shop.database, clock=shop.clock)
    shop.told()
    shop.hours_pass()
    assert (shop.states(), shop.open_incidents()) == (["by_person"], {})
    [row] = list_incidents(Wanted(5), database=shop.database, everything=True)
    assert row["reason"] == "Sent back by bank."
    with pytest.raises(NotFound):
        resolve_incident(incident_id, reason="Again.", database=shop.database, clock=shop.clock)
