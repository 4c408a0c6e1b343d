"""An incident, as a person sees it; and their choice of which subscription stays, carried out by the remedy."""

from typing import Any

import pytest

from billing.coordination.jobs import RemedyDuplicates
from billing.database import Database
from billing.duplicates.policy import Candidate, Wish, decide
from billing.errors import NotFound
from billing.maintenance.sweep import sweep
from billing.operators.incident import NoChoice, keep_one, show_incident
from tests.support.builders import CATALOG, build_subscription
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.duplicates_world import Shop


@pytest.fixture
def shop(database: Database) -> Shop:
    return Shop(database)


def keep(shop: Shop, incident_id: int, kept_id: str, **instead: Any) -> Any:
    return keep_one(incident_id, kept_id, database=shop.database, queue=shop.queue, clock=shop.clock, **instead)


def shown(shop: Shop, incident_id: int) -> dict[str, Any]:
    return show_incident(incident_id, database=shop.database, catalog=shop.catalog)


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("metadata", [{"type": "kiloclaw"}, {}], ids=["tagged", "made elsewhere"])
def test_one_stays_and_the_other_is_canceled_and_given_back(shop: Shop, newer: bool, metadata: dict[str, str]) -> None:
    """SUB-130: whichever a person chooses, also where the policy would leave it alone."""
    customer = shop.customer()
    both = [*shop.live(customer), shop.another(customer, metadata=metadata)]
    incident_id = shop.found(customer)
    kept, other = both[newer], both[not newer]
    assert keep(shop, incident_id, kept, dry_run=True) == [other]
    shop.remedy(incident_id, cancels=False)
    assert len(shop.live(customer)) == 2, "a dry run is no choice"
    assert keep(shop, incident_id, kept) == [other]
    assert RemedyDuplicates(incident_id) in shop.queue.sent
    shop.remedy(incident_id, cancels=False)
    assert shop.live(customer) == [kept]
    assert (shop.refunded(other) > 0, shop.refunded(kept)) == (True, 0)
    assert shop.open_incidents() == {}
    after = shown(shop, incident_id)
    assert [(one["subscription_id"], one["state"]) for one in after["remedies"]] == [(other, "refunded")]
    assert [(one["subscription_id"], one["status"]) for one in after["given_back"]] == [(other, "succeeded")]
    assert (after["kept_by_choice"], after["next"]) == (kept, [])


def test_incident_shows_both_with_amounts_and_how_to_end_it(shop: Shop) -> None:
    """SUB-130"""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    seen = shown(shop, incident_id)
    assert (seen["user_id"], seen["customer_id"]) == ("user_1", customer)
    assert [one["id"] for one in seen["subscriptions"]] == [first, second]
    plan = shop.catalog.plans["standard"]
    assert {(one["amount"], one["currency"], one["costs"]) for one in seen["subscriptions"]} == {
        (plan.amount, plan.currency, "9.00 USD")
    }
    assert [line.split(" --reason")[0] for line in seen["next"][:2]] == [
        f"onelane incidents resolve {incident_id} --keep {first}",
        f"onelane incidents resolve {incident_id} --keep {second}",
    ]
    with pytest.raises(NotFound):
        shown(shop, 99)


def test_lost_message_is_found_by_the_sweep(shop: Shop) -> None:
    """SUB-130, LED-8: also where the policy is alert."""
    customer = shop.customer()
    [first], _ = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    keep(shop, incident_id, first)
    shop.queue.sent.clear()
    sweep(database=shop.database, queue=shop.queue, clock=shop.clock)
    assert RemedyDuplicates(incident_id) in shop.queue.sent


def test_one_that_came_after_the_choice_is_left_to_a_person(shop: Shop) -> None:
    """SUB-130: nobody has seen it."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    keep(shop, incident_id, first)
    third = shop.another(customer)
    shop.remedy(incident_id, cancels=False)
    assert shop.live(customer) == [third, first]
    assert shop.refunded(second) > 0
    assert third in shop.reason()
    shop.found(customer)
    assert keep(shop, incident_id, first) == [third], "a choice about it, too"
    shop.clock.advance(minutes=61)
    shop.remedy(incident_id, cancels=False)
    assert (shop.live(customer), shop.open_incidents()) == ([first], {})


@pytest.mark.parametrize("others", [1, 2])
def test_nothing_is_canceled_once_the_chosen_one_has_ended(shop: Shop, others: int) -> None:
    """SUB-130, SUB-18: a person ends it at Stripe before a worker comes; where the policy is alert, nor by it."""
    customer = shop.customer()
    [first], left = shop.live(customer), [shop.another(customer) for _ in range(others)]
    incident_id = shop.found(customer)
    keep(shop, incident_id, first)
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
    shop.remedy(incident_id, cancels=False)
    assert (shop.live(customer), sum(map(shop.refunded, left)), shop.states()) == (left[::-1], 0, [])


def test_one_that_was_to_stay_before_is_not_canceled_by_a_choice(shop: Shop) -> None:
    """SUB-18: the policy's cancellation in its favor may be on its way."""
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    fuse = Fuse(8)  # the plan is written and not sent
    with pytest.raises(Crash):
        shop.remedy(incident_id, stripe=FusedStripe(shop.stripe, fuse), database=FusedDatabase(shop.database, fuse))
    assert shop.states() == ["planned"]
    with pytest.raises(NoChoice, match="was to stay before"):
        keep(shop, incident_id, second)
    assert keep(shop, incident_id, first) == [second]
    shop.remedy(incident_id, cancels=False)
    assert (shop.live(customer), shop.open_incidents()) == ([first], {})


def test_choice_that_makes_no_sense_is_refused(shop: Shop) -> None:
    customer = shop.customer()
    [first], second = shop.live(customer), shop.another(customer)
    incident_id = shop.found(customer)
    with pytest.raises(NoChoice, match="not live"):
        keep(shop, incident_id, "sub_of_another")
    with pytest.raises(NotFound):
        keep(shop, 99, first)
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}")
    shop.remedy(incident_id)  # finds that it is over
    with pytest.raises(NotFound):
        keep(shop, incident_id, first)


def test_crash_at_every_step_of_a_choice_is_finished_by_running_it_again(shop: Shop) -> None:
    """SUB-20, SUB-130"""
    for steps in range(1, 100):
        customer = shop.customer(f"user_{steps}")
        [first], second = shop.live(customer), shop.another(customer)
        incident_id = shop.found(customer)
        keep(shop, incident_id, second)
        fuse = Fuse(steps)
        hands: Any = {"stripe": FusedStripe(shop.stripe, fuse), "database": FusedDatabase(shop.database, fuse)}
        try:
            shop.remedy(incident_id, cancels=False, **hands)
        except Crash:
            shop.remedy(incident_id, cancels=False)
        assert (shop.live(customer), shop.open_incidents()) == ([second], {}), steps
        assert shop.refunded(first) > 0, steps
        if not fuse.burnt:
            break
    assert 15 < steps < 99


@pytest.mark.parametrize(
    ("kept", "wish", "by_policy", "keep_id", "cancel"),
    [
        ((), Wish("sub_2", ("sub_1",)), False, "sub_2", ("sub_1",)),
        ((), Wish("sub_2", ("sub_1",)), True, "sub_2", ("sub_1",)),
        ((), Wish("sub_9", ("sub_1",)), False, None, ()),  # it has ended
        ((), Wish("sub_9", ("sub_1",)), True, "sub_1", ("sub_2", "sub_3")),  # then the policy
        ((), Wish("sub_2", ("sub_9",)), False, None, ()),  # fulfilled
        (("sub_1",), Wish("sub_2", ("sub_1",)), False, None, ()),
        (("sub_2",), Wish("sub_2", ("sub_1", "sub_3")), False, "sub_2", ("sub_1", "sub_3")),
        ((), None, False, None, ()),
    ],
)
def test_wish_comes_before_the_policy_and_never_against_an_earlier_choice(
    kept: tuple[str, ...], wish: Wish | None, by_policy: bool, keep_id: str | None, cancel: tuple[str, ...]
) -> None:
    """SUB-130, SUB-18"""
    paid = [{"id": "in_1", "status": "paid", "amount_paid": 900}]
    candidates = [
        Candidate(build_subscription(f"sub_{number}", created=number, metadata={"type": CATALOG.product}), paid)
        for number in (1, 2, 3)
    ]
    decision = decide(candidates, CATALOG, kept=kept, wish=wish, by_policy=by_policy)
    assert (decision.keep, decision.cancel) == (keep_id, cancel)
    assert (decision.reason is None) == (set(decision.live) == {decision.keep, *cancel})
