"""DUPLICATE_POLICY=cancel_newest over the sandbox: what is canceled, refunded, left to a person, and finished after a
crash anywhere."""

from typing import Any

import pytest
import sqlalchemy as sa

from billing.coordination.jobs import RemedyDuplicates
from billing.maintenance.sweep import sweep
from billing.models import incidents
from billing.operators.listing import Wanted
from billing.operators.lookup import list_incidents
from tests.support.duplicates_world import TAG, Shop


def test_newer_one_is_canceled_and_refunded_and_the_incident_is_over(shop: Shop) -> None:
    """SUB-16, SUB-19"""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    paid = shop.objects("invoice")[0]["amount_paid"]
    incident_id = shop.found(customer)
    assert list(shop.open_incidents()) == ["duplicate_subscription"]
    shop.remedy(incident_id)
    assert shop.live(customer) == [first]
    assert (shop.refunded(second), shop.refunded(first)) == (paid, 0)
    assert paid > 0
    assert (shop.states(), shop.open_incidents()) == (["refunded"], {})
    [row] = list_incidents(Wanted(5), database=shop.database, everything=True)
    assert [(one["subscription_id"], one["state"]) for one in row["remedies"]] == [(second, "refunded")]
    before = len(shop.requests())
    shop.remedy(incident_id)
    assert len(shop.requests()) == before, "what is over costs nothing"


def test_of_many_only_the_oldest_is_left(shop: Shop) -> None:
    """SUB-16"""
    customer = shop.customer()
    [first] = shop.live(customer)
    others = [shop.another(customer) for _ in range(3)]
    shop.remedy(shop.found(customer))
    assert shop.live(customer) == [first]
    assert all(shop.refunded(id_) > 0 for id_ in others)
    assert shop.states() == ["refunded"] * 3


@pytest.mark.parametrize("state", ["past_due", "unpaid"])
def test_older_one_that_does_not_pay_goes_and_the_paid_one_stays(shop: Shop, state: str) -> None:
    """SUB-16, SUB-18, SUB-68: what was paid for is neither canceled nor refunded."""
    customer = shop.customer()
    [first] = shop.live(customer)
    shop.pay_no_more(first, state)
    second = shop.another(customer)
    shop.remedy(shop.found(customer))
    assert shop.live(customer) == [second]
    assert (shop.refunded(second), shop.open_incidents()) == (0, {})


@pytest.mark.parametrize("state", ["collection paused", "canceled soon"])
def test_where_it_is_not_clear_nothing_changes_and_a_person_reads_why(shop: Shop, state: str) -> None:
    """SUB-18, SUB-21"""
    customer = shop.customer()
    [first] = shop.live(customer)
    if state == "canceled soon":
        shop.sandbox.request("POST", f"/v1/subscriptions/{first}", {"cancel_at_period_end": True})
    else:
        shop.pay_no_more(first, state)
    second = shop.another(customer)
    shop.remedy(shop.found(customer))
    assert sorted(shop.live(customer)) == sorted([first, second])
    assert (shop.objects("refund"), shop.states()) == ([], [])
    reason = shop.open_incidents()["duplicate_subscription"] or ""
    assert first in reason
    assert f"{second} pays (active; paid 9.00 USD)" in reason


def test_older_trial_without_a_card_goes_and_one_with_a_card_is_left_to_a_person(shop: Shop) -> None:
    """SUB-16, SUB-68"""
    customer = shop.bare_customer()
    trial = shop.another(customer, card=None, trial_period_days=30)
    second = shop.another(customer, default=False)
    shop.remedy(shop.found(customer))
    assert shop.live(customer) == [second]
    assert (shop.refunded(second), shop.states()) == (0, ["nothing_to_refund"])

    customer = shop.bare_customer()
    trial = shop.another(customer, trial_period_days=30)
    second = shop.another(customer)
    shop.remedy(shop.found(customer))
    assert shop.live(customer) == [second, trial]


def test_alert_changes_nothing_at_stripe(shop: Shop) -> None:
    """SUB-16"""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    before = len(shop.requests())
    shop.remedy(incident_id, cancels=False)
    assert len(shop.requests()) == before
    assert len(shop.live(customer)) == 2
    assert list(shop.open_incidents()) == ["duplicate_subscription"]
    shop.queue.sent.clear()
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=True)
    assert RemedyDuplicates(incident_id) in shop.queue.sent, "nor is it put off, should the policy change"


def test_what_was_made_elsewhere_stays_and_a_person_is_told_why(shop: Shop) -> None:
    """SUB-17, SUB-21"""
    customer = shop.customer()
    untagged = shop.another(customer, metadata={})
    tagged = shop.another(customer)
    incident_id = shop.found(customer)
    shop.remedy(incident_id)
    assert untagged in shop.live(customer)
    assert tagged not in shop.live(customer)
    assert untagged in (shop.open_incidents()["duplicate_subscription"] or "")


@pytest.mark.parametrize("instead", [{"trial_period_days": 7}, {"payment_behavior": "default_incomplete"}])
def test_one_that_cost_nothing_yet_needs_no_refund(shop: Shop, instead: dict[str, Any]) -> None:
    """SUB-19: a trial's first invoice is over zero, an incomplete one's was never paid."""
    customer = shop.customer()
    shop.another(customer, **instead)
    shop.remedy(shop.found(customer))
    assert (shop.states(), len(shop.live(customer)), shop.objects("refund")) == (["nothing_to_refund"], 1, [])


def test_incident_of_one_customer_is_nobody_elses(shop: Shop) -> None:
    """SUB-16, SUB-21: what is over for one goes on for the other."""
    first, second = shop.customer("user_1"), shop.customer("user_2")
    shop.another(first), shop.another(second)
    found = shop.found(first), shop.found(second)
    shop.remedy(found[0])
    rows = {row.customer_id: row.resolved_at is None for row in shop.rows(incidents)}
    assert (len(shop.live(first)), len(shop.live(second)), rows) == (1, 2, {first: False, second: True})
    shop.remedy(found[1])
    assert shop.open_incidents() == {}
    shop.clock.advance(minutes=61)
    shop.queue.sent.clear()
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=True)
    assert [job for job in shop.queue.sent if isinstance(job, RemedyDuplicates)] == [], "both are over"


def test_what_waits_for_a_person_is_looked_at_again_within_the_hour(shop: Shop) -> None:
    """SUB-20: where the policy cancels; an alert is left alone."""
    customer = shop.customer()
    shop.pay_no_more(shop.live(customer)[0], "collection paused")
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.remedy(incident_id)
    shop.queue.sent.clear()
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=True)
    assert RemedyDuplicates(incident_id) not in shop.queue.sent, "not at once"
    shop.clock.advance(minutes=61)
    for cancels in (True, False):
        shop.queue.sent.clear()
        sweep(database=shop.database, queue=shop.queue, clock=shop.clock, cancels_duplicates=cancels)
        assert (RemedyDuplicates(incident_id) in shop.queue.sent) is cancels


def test_payment_that_is_still_on_its_way_is_refunded_when_it_has_arrived(shop: Shop) -> None:
    """SUB-19: a debit takes days."""
    customer = shop.customer()
    with shop.database.write() as connection:  # two buyers' pages at once, as an earlier system would have made them
        connection.execute(sa.update(incidents).values(resolved_at=None))
    made = {"mode": "subscription", "customer": customer, "success_url": "https://old.example", "metadata": TAG}
    items = [{"price": shop.catalog.plans["standard"].price, "quantity": 1}]
    made |= {"line_items": items, "subscription_data": {"metadata": TAG}}
    session = shop.sandbox.request("POST", "/v1/checkout/sessions", made).body["id"]
    shop.sandbox.pay(session, delayed=True)
    incident_id = shop.found(customer)
    shop.remedy(incident_id)
    assert (shop.states(), len(shop.live(customer))) == (["canceled"], 1)
    shop.sandbox.settle(session)
    shop.clock.advance(minutes=61)
    shop.remedy(incident_id)
    assert (shop.states(), len(shop.objects("refund"))) == (["refunded"], 1)
