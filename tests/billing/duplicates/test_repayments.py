"""The money of a duplicate, over the sandbox: what goes back by itself, what is waited for, what a person finishes."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from billing.database import Database
from billing.errors import NotFound
from billing.models import events, repayments
from billing.operators.incident import resolve_incident
from billing.operators.lookup import list_incidents
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.races.unlocked import NoLocks
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.duplicates_world import Shop

CARD, PENDING, FAILING = "pm_card_visa", "pm_card_pendingRefund", "pm_card_refundFail"


@pytest.fixture
def shop(database: Database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


def doubled(shop: Shop, *, card: str = CARD, credit: int = 0, **instead: Any) -> tuple[str, str, int]:
    """A customer with a second subscription, paid by this card and so much credit: customer, second one, incident."""
    customer = shop.customer()
    if credit:
        shop.give_credit(customer, credit)
    second = shop.another(customer, card=card, **instead)
    return customer, second, shop.found(customer)


@pytest.mark.parametrize("how", ["an event", "the sweep"])
def test_pending_refund_keeps_the_incident_open_until_it_has_arrived(shop: Shop, how: str) -> None:
    """SUB-110, SUB-111"""
    _, second, incident_id = doubled(shop, card=PENDING)
    shop.remedy(incident_id)
    [refund] = shop.objects("refund")
    assert refund["status"] == "pending"
    assert shop.states() == ["canceled"]
    assert f"refund {refund['id']} of 9.00 USD is pending" in shop.reason()
    assert second in shop.reason()
    shop.told()  # that it was made is no news
    assert "pending" in shop.reason()
    shop.sandbox.refund_becomes(refund["id"], "succeeded")
    if how == "an event":
        shop.told()
    else:
        shop.hours_pass()
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})
    assert len(shop.objects("refund")) == 1


@pytest.mark.parametrize("type", ["refund.failed", "refund.updated", "charge.refund.updated"])
def test_refund_that_fails_later_opens_the_incident_again(shop: Shop, type: str) -> None:
    """SUB-114; fault 100: each of the three events is enough, and nothing is tried again by itself."""
    _, _, incident_id = doubled(shop, card=FAILING)
    shop.remedy(incident_id)
    shop.told()
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})
    [refund] = shop.objects("refund")
    shop.sandbox.refund_becomes(refund["id"], "failed")
    known = {row.event_id for row in shop.rows(events)}
    [event] = [event for event in shop.made() if event["id"] not in known and event["type"] == type]
    shop.tell_of(event)
    assert shop.states() == ["canceled"]
    assert f"refund {refund['id']} of 9.00 USD is failed (expired_or_canceled_card)" in shop.reason()
    assert "another way" in shop.reason()
    [row] = shop.rows(repayments)
    assert (row.status, row.stripe_id) == ("failed", refund["id"])
    shop.hours_pass(3)
    assert len(shop.objects("refund")) == 1
    intent = refund["payment_intent"]  # a person tries once more, and the bank takes it
    again = shop.sandbox.request("POST", "/v1/refunds", {"payment_intent": intent}).body
    assert again["status"] == "succeeded"
    shop.told()
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})


def test_refund_that_fails_while_the_worker_looks_is_seen(shop: Shop) -> None:
    """SUB-111: the event comes after the look and before its result is written."""
    _, _, incident_id = doubled(shop, card=FAILING)
    shop.remedy(incident_id)
    shop.told()
    [refund] = shop.objects("refund")
    shop.sandbox.request("POST", f"/v1/refunds/{refund['id']}", {"metadata": {"note": "a change"}})
    real, seen = shop.stripe.list_refunds, []

    def look(charge_id: str) -> Any:
        answer = real(charge_id)
        if not seen:
            seen.append(charge_id)
            shop.sandbox.refund_becomes(refund["id"], "failed")
            shop.told()
        return answer

    shop.stripe.list_refunds = look  # type: ignore[method-assign]
    shop.told()
    shop.hours_pass(1)
    assert shop.states() == ["canceled"]
    assert "is failed" in shop.reason()


@pytest.mark.parametrize(("credit", "refunded", "back"), [(900, 0, 900), (1000, 0, 900), (300, 600, 300)])
def test_credit_that_the_duplicate_took_is_on_the_balance_again(
    shop: Shop, credit: int, refunded: int, back: int
) -> None:
    """SUB-112: by card, by credit, or both."""
    customer, second, incident_id = doubled(shop, credit=credit)
    assert shop.credit(customer) == credit - back
    shop.remedy(incident_id)
    assert (shop.credit(customer), shop.refunded(second)) == (credit, refunded)
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})
    given = shop.objects("customer_balance_transaction")[0]
    assert (given["type"], given["amount"], given["metadata"]["type"]) == ("adjustment", -back, "kiloclaw")
    shop.told()
    shop.hours_pass()
    assert shop.credit(customer) == credit


def test_credit_is_back_and_the_refund_is_pending(shop: Shop) -> None:
    """SUB-110, SUB-112: the incident is over when all of it is back."""
    customer, _, incident_id = doubled(shop, card=PENDING, credit=300)
    shop.remedy(incident_id)
    assert (shop.credit(customer), shop.states()) == (300, ["canceled"])
    assert "6.00 USD is pending" in shop.reason()
    assert "credit" not in shop.reason()


def test_crash_at_every_step_gives_back_once(shop: Shop) -> None:
    """SUB-20, SUB-113: half by card, half by credit, whatever the process died at."""
    for steps in range(1, 200):
        customer = shop.customer(f"user_{steps}")
        shop.give_credit(customer, 300)
        second = shop.another(customer)
        incident_id = shop.found(customer)
        fuse = Fuse(steps)
        try:
            shop.remedy(incident_id, stripe=FusedStripe(shop.stripe, fuse), database=FusedDatabase(shop.database, fuse))
        except Crash:
            shop.remedy(incident_id)
        assert (shop.credit(customer), shop.refunded(second)) == (300, 600), steps
        assert (set(shop.states()), shop.open_incidents()) == ({"refunded"}, {}), steps
        if not fuse.burnt:
            break
    assert 40 < steps < 199


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after"},
        {"kind": "drop_before"},
        {"kind": "save_500_with_effect"},
        {"kind": "save_500_without_effect"},
        {"kind": "truncated"},
        {"kind": "status", "status": 429},
        {"kind": "status", "status": 409},
    ],
    ids=lambda fault: str(fault["kind"]),
)
@pytest.mark.parametrize("path", ["/balance_transactions", "/v1/refunds"])
@pytest.mark.parametrize("hours", [1, 30], ids=["soon", "after Stripe forgot the key"])
def test_unclear_answer_is_looked_at_before_more_is_given(
    shop: Shop, fault: dict[str, Any], path: str, hours: int
) -> None:
    """SUB-113"""
    customer, second, incident_id = doubled(shop, credit=300)
    shop.sandbox.faults.add(method="POST", path=path, **fault)
    shop.remedy(incident_id)
    shop.clock.advance(hours=hours)
    shop.hours_pass(3)
    assert (shop.credit(customer), shop.refunded(second)) == (300, 600)
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})


def test_saved_failure_is_not_followed_by_another_key_while_lists_may_lag(shop: Shop) -> None:
    """SUB-113: the credit was given, the answer was a 500, and the list does not show it yet."""
    customer, _, incident_id = doubled(shop, credit=900)
    shop.sandbox.faults.add("save_500_with_effect", method="POST", path="/balance_transactions")
    shop.sandbox.faults.add("stale_list", method="GET", path="/balance_transactions", seconds=40, times=None)
    shop.remedy(incident_id)
    for _ in range(6):
        shop.clock.advance(seconds=15)
        shop.remedy(incident_id)
    shop.hours_pass()
    assert shop.credit(customer) == 900
    assert shop.states() == ["refunded"]


def test_lost_answer_is_asked_for_again_under_the_same_key(shop: Shop) -> None:
    """SUB-113: the credit was given, nobody heard of it, and the list does not show it yet."""
    customer, _, incident_id = doubled(shop, credit=900)
    shop.sandbox.faults.add("drop_after", method="POST", path="/balance_transactions")
    shop.sandbox.faults.add("stale_list", method="GET", path="/balance_transactions", seconds=40, times=None)
    shop.remedy(incident_id)
    shop.clock.advance(seconds=10)
    shop.remedy(incident_id)
    assert shop.credit(customer) == 900
    assert shop.states() == ["refunded"]


def test_sync_leaves_the_incident_open_while_money_is_owed(shop: Shop) -> None:
    """SUB-110: any other event of the customer."""
    customer, _, incident_id = doubled(shop, card=PENDING)
    shop.remedy(incident_id)
    places: dict[str, Any] = {"database": shop.database, "stripe": shop.stripe, "clock": shop.clock}
    sync_customer(customer, SyncContext(catalog=shop.catalog, queue=shop.queue, **places))
    assert "pending" in shop.reason()


def test_worker_that_slept_before_it_sends_gives_nothing(shop: Shop) -> None:
    """SUB-113: a day later its key is forgotten, and another worker has long given it back."""
    customer, _, incident_id = doubled(shop, credit=900)
    real = shop.stripe.list_balance_transactions

    def sleepy(customer_id: str) -> Any:
        answer = real(customer_id)
        shop.stripe.list_balance_transactions = real  # type: ignore[method-assign]
        shop.remedy(incident_id, locks=NoLocks())
        shop.clock.advance(hours=25)
        shop.sandbox.tick()
        return answer

    shop.stripe.list_balance_transactions = sleepy  # type: ignore[method-assign]
    shop.remedy(incident_id)
    shop.hours_pass()
    assert (shop.credit(customer), shop.states()) == (900, ["refunded"])


def test_workers_at_once_give_back_once(shop: Shop) -> None:
    """SUB-20, SUB-113: five of them, without any lock."""
    customer, second, incident_id = doubled(shop, credit=300)
    start = threading.Barrier(5)

    def worker(_number: int) -> None:
        start.wait()
        shop.remedy(incident_id, locks=NoLocks())

    with ThreadPoolExecutor(5) as threads:
        list(threads.map(worker, range(5)))
    shop.hours_pass()
    assert (shop.credit(customer), shop.refunded(second)) == (300, 600)
    assert shop.open_incidents() == {}


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
    _, second, incident_id = doubled(shop)
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
    _, second, incident_id = doubled(shop)
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
    [row] = list_incidents(database=shop.database, everything=True, limit=5)
    assert row["reason"] == "Sent back by bank."
    with pytest.raises(NotFound):
        resolve_incident(incident_id, reason="Again.", database=shop.database, clock=shop.clock)
