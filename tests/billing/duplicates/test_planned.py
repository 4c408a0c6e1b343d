"""A cancellation that was planned, and what comes between the plan and the call."""

from typing import Any

import pytest
import sqlalchemy as sa

from billing.models import remedies
from tests.races.unlocked import LapsedLocks, NoLocks
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.duplicates_world import Shop

PLANNED = 8  # steps of a fuse: a list, the invoices of two subscriptions, and a commit; the plan is written, not sent


def die_with_the_plan(shop: Shop, incident_id: int) -> None:
    """A worker writes what it is about to cancel, and dies before it calls Stripe."""
    fuse = Fuse(PLANNED)
    with pytest.raises(Crash):
        shop.remedy(incident_id, stripe=FusedStripe(shop.stripe, fuse), database=FusedDatabase(shop.database, fuse))


def test_plan_is_not_carried_out_in_favor_of_a_third_one(shop: Shop) -> None:
    """SUB-18: what a plan says stays, or the plan is dropped and made anew, so that the ledger knows who was chosen."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    die_with_the_plan(shop, incident_id)
    third = shop.another(customer, card=None)
    with shop.database.write() as connection:
        connection.execute(sa.update(remedies).values(subscription_id=third, kept_id=second))
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}")
    shop.remedy(incident_id)
    assert shop.live(customer) == [first]
    with shop.database.read() as connection:
        rows = connection.execute(sa.select(remedies.c.state, remedies.c.kept_id).order_by(remedies.c.id)).all()
    assert [tuple(row) for row in rows] == [("dropped", second), ("refunded", first)]


def test_two_plans_never_cross_when_the_older_one_pays_again(shop: Shop) -> None:
    """SUB-18: a worker is about to cancel the older one, which pays meanwhile; nobody may now choose the newer one."""
    customer = shop.customer()
    [first] = shop.live(customer)
    shop.pay_no_more(first, "past_due")
    second = shop.another(customer)
    incident_id = shop.found(customer)
    real = shop.stripe.cancel_subscription

    def sleepy(subscription_id: str, *, comment: str) -> None:
        shop.stripe.cancel_subscription = real  # type: ignore[method-assign]
        shop.sandbox.force_status(first, "active")
        shop.pay_open_invoices(first)
        shop.remedy(incident_id, locks=NoLocks())  # another worker, while the request is on its way
        real(subscription_id, comment=comment)

    shop.stripe.cancel_subscription = sleepy  # type: ignore[method-assign]
    shop.remedy(incident_id)
    assert second in shop.live(customer)


def test_last_live_one_is_never_canceled(shop: Shop) -> None:
    """SUB-18: what was to stay is canceled by a person after the plan was made."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    die_with_the_plan(shop, incident_id)
    assert shop.states() == ["planned"]
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
    shop.remedy(incident_id)
    assert shop.live(customer) == [second]
    assert (shop.states(), shop.refunded(second), shop.open_incidents()) == (["dropped"], 0, {})


def test_worker_that_slept_after_looking_looks_again(shop: Shop) -> None:
    """SUB-18: the one to be kept goes while this worker is frozen."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    real, looks = shop.stripe.list_subscriptions, []

    def sleepy(customer_id: str) -> Any:
        answer = real(customer_id)
        looks.append(customer_id)
        if len(looks) == 2:  # the look right before the cancellation
            shop.clock.advance(hours=1)
            shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
        return answer

    shop.stripe.list_subscriptions = sleepy  # type: ignore[method-assign]
    shop.remedy(incident_id)
    assert shop.live(customer) == [second]


def test_one_that_a_person_canceled_is_theirs_to_refund(shop: Shop) -> None:
    """SUB-19: only what this remedy ended is refunded by it."""
    customer = shop.customer()
    shop.live(customer)
    second = shop.another(customer)
    incident_id = shop.found(customer)
    die_with_the_plan(shop, incident_id)
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}")
    shop.remedy(incident_id)
    assert (shop.states(), shop.refunded(second)) == (["dropped"], 0)


def test_plan_that_is_not_wanted_any_more_is_dropped(shop: Shop) -> None:
    """SUB-16: the operator went back to alert."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    die_with_the_plan(shop, incident_id)
    shop.remedy(incident_id, cancels=False)
    assert (shop.states(), len(shop.live(customer))) == (["dropped"], 2)


def test_worker_whose_lock_lapsed_cancels_nothing(shop: Shop) -> None:
    """SUB-20: another one may be at it; it is tried again later."""
    customer = shop.customer()
    shop.another(customer)
    incident_id = shop.found(customer)
    shop.remedy(incident_id, locks=LapsedLocks())
    assert (len(shop.live(customer)), shop.states()) == (2, [])
    assert "lapsed" in (shop.open_incidents()["duplicate_subscription"] or "")
    shop.clock.advance(minutes=61)
    shop.remedy(incident_id)
    assert len(shop.live(customer)) == 1


def test_cancellation_of_a_worker_that_died_is_known_by_its_comment(shop: Shop) -> None:
    """SUB-19, SUB-20: its answer came to nobody."""
    customer = shop.customer()
    second = shop.another(customer)
    incident_id = shop.found(customer)
    die_with_the_plan(shop, incident_id)
    [planned] = shop.rows(remedies)
    shop.stripe.cancel_subscription(second, comment=f"by onelane ({planned.nonce})")
    shop.remedy(incident_id)
    assert (shop.states(), shop.refunded(second) > 0) == (["refunded"], True)
