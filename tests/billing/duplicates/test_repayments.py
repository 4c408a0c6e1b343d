"""The money of a duplicate, over the sandbox: what goes back by itself, what is waited for, what a person finishes."""

from typing import Any

import pytest

from billing.models import events, repayments
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.races.unlocked import NoLocks
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.duplicates_world import Shop

PENDING, FAILING = "pm_card_pendingRefund", "pm_card_refundFail"


@pytest.mark.parametrize("how", ["an event", "the sweep"])
def test_pending_refund_keeps_the_incident_open_until_it_has_arrived(shop: Shop, how: str) -> None:
    """SUB-110, SUB-111"""
    _, second, incident_id = shop.doubled(card=PENDING)
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
    _, _, incident_id = shop.doubled(card=FAILING)
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
    _, _, incident_id = shop.doubled(card=FAILING)
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
    customer, second, incident_id = shop.doubled(credit=credit)
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
    customer, _, incident_id = shop.doubled(card=PENDING, credit=300)
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
    customer, second, incident_id = shop.doubled(credit=300)
    shop.sandbox.faults.add(method="POST", path=path, **fault)
    shop.remedy(incident_id)
    shop.clock.advance(hours=hours)
    shop.hours_pass(3)
    assert (shop.credit(customer), shop.refunded(second)) == (300, 600)
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})


def test_saved_failure_is_not_followed_by_another_key_while_lists_may_lag(shop: Shop) -> None:
    """SUB-113: the credit was given, the answer was a 500, and the list does not show it yet."""
    customer, _, incident_id = shop.doubled(credit=900)
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
    customer, _, incident_id = shop.doubled(credit=900)
    shop.sandbox.faults.add("drop_after", method="POST", path="/balance_transactions")
    shop.sandbox.faults.add("stale_list", method="GET", path="/balance_transactions", seconds=40, times=None)
    shop.remedy(incident_id)
    shop.clock.advance(seconds=10)
    shop.remedy(incident_id)
    assert shop.credit(customer) == 900
    assert shop.states() == ["refunded"]


def test_sync_leaves_the_incident_open_while_money_is_owed(shop: Shop) -> None:
    """SUB-110: any other event of the customer."""
    customer, _, incident_id = shop.doubled(card=PENDING)
    shop.remedy(incident_id)
    places: dict[str, Any] = {"database": shop.database, "stripe": shop.stripe, "clock": shop.clock}
    sync_customer(customer, SyncContext(catalog=shop.catalog, queue=shop.queue, **places))
    assert "pending" in shop.reason()


def test_worker_that_slept_before_it_sends_gives_nothing(shop: Shop) -> None:
    """SUB-113: a day later its key is forgotten, and another worker has long given it back."""
    customer, _, incident_id = shop.doubled(credit=900)
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
    customer, second, incident_id = shop.doubled(credit=300)
    shop.remedy_at_once(incident_id)
    shop.hours_pass()
    assert (shop.credit(customer), shop.refunded(second)) == (300, 600)
    assert shop.open_incidents() == {}
