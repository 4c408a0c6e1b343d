"""What a buyer can count on, on a real ledger and the sandbox (specs/checkout.md)."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from billing.checkout.work import work_lane
from billing.customers.customers import claim_customer
from billing.errors import CustomerTaken, InvalidRequest
from billing.models import AttemptOutcome, CheckoutStatus
from billing.subscriptions.projection_store import note_session
from tests.races.unlocked import NoLocks
from tests.support.checkout_world import World


def test_buyer_gets_the_url_of_a_session_that_is_open(world: World) -> None:
    view = world.served()
    (session,) = world.sessions("open")
    assert (view.status, view.url, view.session_id) == (CheckoutStatus.OPEN, session["url"], session["id"])
    assert view.reused is False


def test_session_and_subscription_carry_tag_and_nonce(world: World) -> None:
    """CHK-3."""
    view = world.served(metadata={"campaign": "spring"}, client_reference_id="ref_1")
    (session,) = world.sessions()
    assert session["metadata"]["type"] == "kiloclaw"
    assert session["metadata"]["campaign"] == "spring"
    assert session["client_reference_id"] == "ref_1"
    world.sandbox.pay(str(view.session_id))
    (subscription,) = world.objects("subscription")
    assert subscription["metadata"] == session["metadata"]
    assert len(session["metadata"]["nonce"]) == 36


def test_fresh_checkout_costs_six_reads_and_one_create(world: World) -> None:
    known = str(world.sandbox.request("POST", "/v1/customers", {}).body["id"])
    claim_customer("user_1", known, database=world.database, clock=world.clock)
    world.sandbox.log.clear()
    assert world.served().status is CheckoutStatus.OPEN
    reads = world.requests("GET")
    assert len(reads) == 6
    assert [one["path"] for one in world.requests("POST")] == ["/v1/checkout/sessions"]


def test_repeat_reuses_the_session_for_three_reads(world: World) -> None:
    first = world.served()
    world.sandbox.log.clear()
    second = world.served()
    assert (second.url, second.reused) == (first.url, True)
    assert [one["method"] for one in world.requests()] == ["GET"] * 3


def test_second_buyer_gets_a_session_of_their_own(world: World) -> None:
    first, second = world.served(user="user_1"), world.served(user="user_2")
    assert first.session_id != second.session_id
    assert len(world.objects("customer")) == 2


def test_fifty_concurrent_requests_share_one_session(world: World) -> None:
    """CHK-1, CHK-2, CHK-8; faults row 3: fifty requests, eight workers, one create, one customer, one URL."""
    with ThreadPoolExecutor(16) as people:
        ids = list(people.map(lambda _: world.ask(), range(50)))
        list(people.map(lambda _: world.work_lane(1), range(8)))
    world.work()
    urls = {world.view(checkout_id).url for checkout_id in ids}
    assert urls == {world.sessions("open")[0]["url"]}
    assert world.creates() == 1
    assert len(world.objects("customer")) == 1


def test_without_any_lock_there_is_still_one_open_session(world: World) -> None:
    """LAN-1, LAN-2, CHK-1, CHK-2: eight workers on one lane at once, all of them with permission."""
    with ThreadPoolExecutor(16) as people:
        ids = list(people.map(lambda _: world.ask(), range(20)))
        start = threading.Barrier(8)

        def worker(_: int) -> None:
            start.wait()
            world.work_lane(1, locks=NoLocks())

        list(people.map(worker, range(8)))
    world.work()
    assert len(world.sessions("open")) == 1
    assert {world.view(checkout_id).url for checkout_id in ids} == {world.sessions("open")[0]["url"]}
    assert world.creates() == 1


def test_two_plans_mixed_end_with_the_newest(world: World) -> None:
    """CHK-1, LAN-12: the newest request wins, the others are superseded, one session stays open."""
    ids = [world.ask(("standard", "commit")[turn % 2]) for turn in range(10)]
    world.work()
    views = [world.view(checkout_id) for checkout_id in ids]
    assert views[-1].status is CheckoutStatus.OPEN
    assert [view.plan for view in views if view.status is CheckoutStatus.OPEN] == ["commit"] * 5
    assert {view.status for view in views if view.plan == "standard"} == {CheckoutStatus.SUPERSEDED}
    assert len(world.sessions("open")) == 1


def test_alternating_plans_one_after_the_other_leave_one_open_session(world: World) -> None:
    """CHK-15, CHK-6; faults row 5: the earlier checkout shows that it was superseded, without a URL."""
    views = [world.served(("standard", "commit")[turn % 2]) for turn in range(6)]
    assert [view.status for view in views] == [CheckoutStatus.OPEN] * 6
    assert len(world.sessions("open")) == 1
    assert len(world.sessions("expired")) == 5
    old = world.view(views[0].id)
    assert (old.status, old.url) == (CheckoutStatus.SUPERSEDED, None)


def test_superseded_checkout_shows_so_even_when_stripes_event_was_faster(world: World) -> None:
    """CHK-15: `checkout.session.expired` may be worked before the lane is closed."""
    first = world.served()
    expire = world.stripe.expire_session

    def expire_and_hear_of_it(session_id: str) -> None:
        expire(session_id)
        with world.database.write() as connection:
            note_session(connection, session_id, AttemptOutcome.EXPIRED)

    world.stripe.expire_session = expire_and_hear_of_it  # type: ignore[method-assign]
    world.served("commit")
    assert world.view(first.id).status is CheckoutStatus.SUPERSEDED


def test_abandoned_checkout_is_replaced_once_it_is_stale(world: World) -> None:
    """CHK-5, LAN-4: after the reuse time the next request gets a session of its own; the old one is expired."""
    first = world.served()
    world.clock.advance(seconds=901)
    second = world.served()
    assert second.session_id != first.session_id
    assert [one["id"] for one in world.sessions("open")] == [second.session_id]


def test_stale_is_judged_by_arrival_not_by_now(world: World) -> None:
    """LAN-4: two checkouts that arrived in time share the session, however late a worker comes to them."""
    first = world.served()
    world.clock.advance(seconds=800)
    second = world.ask()
    world.clock.advance(seconds=800)
    world.work()
    assert world.view(second).session_id == first.session_id


@pytest.mark.parametrize("hours", [0, 2, 23.9])
def test_session_of_an_earlier_system_is_expired_and_a_foreign_one_untouched(world: World, hours: float) -> None:
    """CHK-4, CHK-5: tagged by whoever, it goes; of another product or without a tag, it stays.

    Stripe lets a page live for 24 h: the abandoned one of yesterday is still there.
    """
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    others = {tag: _legacy_session(world, customer_id, tag) for tag in ("kiloclaw", "other", None)}
    world.clock.advance(seconds=hours * 3600)
    assert {one["status"] for one in world.sessions() if one["id"] in others.values()} == {"open"}
    world.served("commit")
    status = {one["id"]: one["status"] for one in world.sessions()}
    assert status[others["kiloclaw"]] == "expired"
    assert status[others["other"]] == status[others[None]] == "open"


def _legacy_session(world: World, customer_id: str, tag: str | None) -> str:
    parameters = {
        "mode": "subscription",
        "customer": customer_id,
        "line_items": [{"price": world.catalog.plans["standard"].price, "quantity": 1}],
        "success_url": "https://old.example",
        "metadata": {"type": tag} if tag else {},
    }
    return str(world.sandbox.request("POST", "/v1/checkout/sessions", parameters).body["id"])


def test_completed_checkout_shows_completed_and_no_url(world: World) -> None:
    """CHK-15, CHK-6."""
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    world.served()  # looks at the session, and finds it paid
    assert (world.view(view.id).status, world.view(view.id).url) == (CheckoutStatus.COMPLETED, None)


def test_expired_checkout_shows_expired_and_no_url(world: World) -> None:
    """CHK-15."""
    view = world.served()
    world.clock.advance(hours=23, minutes=1)
    assert (world.view(view.id).status, world.view(view.id).url) == (CheckoutStatus.EXPIRED, None)


def test_existing_customer_is_taken_over(world: World) -> None:
    """CHK-14: no second customer is made for a user whose customer was imported."""
    known = str(world.sandbox.request("POST", "/v1/customers", {}).body["id"])
    claim_customer("user_1", known, database=world.database, clock=world.clock)
    claim_customer("user_1", known, database=world.database, clock=world.clock)  # twice is once
    world.served()
    assert world.sessions()[0]["customer"] == known
    assert len(world.objects("customer")) == 1


def test_customer_or_user_that_is_taken_is_refused(world: World) -> None:
    """CHK-14."""
    claim_customer("user_1", "cus_1", database=world.database, clock=world.clock)
    for user, customer in (("user_1", "cus_2"), ("user_2", "cus_1")):
        with pytest.raises(CustomerTaken):
            claim_customer(user, customer, database=world.database, clock=world.clock)
    world.served(user="user_3")
    with pytest.raises(CustomerTaken):
        claim_customer("user_3", "cus_3", database=world.database, clock=world.clock)
    with pytest.raises(InvalidRequest):
        claim_customer("user_4", "cus_x?expand[]=", database=world.database, clock=world.clock)


def test_worker_that_does_not_get_the_lock_gives_its_slot_back(world: World) -> None:
    """LAN-19: it neither waits nor works, and the job comes again."""
    world.ask()
    world.queue.sent.clear()
    with world.locks.hold("lane:1") as held:
        assert held is not None
        world.work_lane()
    [job] = world.queue.sent
    assert job.kind == "lane.work"
    assert world.queue.delays[job] > 0, "in a moment: else it comes round as fast as the queue does"
    assert world.requests() == []
    world.work()
    assert len(world.sessions("open")) == 1


def test_pass_says_whether_it_noted_a_failure(world: World) -> None:
    """LAN-16, LAN-19: a lane that is held, that rests or that has nothing to do is none."""
    world.ask()
    with world.locks.hold("lane:1"):
        assert work_lane(1, world.context())
    world.sandbox.faults.add("drop_before", path="/v1", times=None)
    assert not work_lane(1, world.context())
    assert work_lane(1, world.context()), "it rests"
    world.sandbox.faults.clear()
    world.clock.advance(seconds=61)
    assert work_lane(1, world.context()), "answered"
    assert work_lane(1, world.context()), "nothing is left"


def test_page_that_an_event_said_is_over_is_replaced(world: World) -> None:
    """CHK-15, LAN-9: the event was worked before the next checkout came."""
    first = world.served()
    assert world.sandbox.request("POST", f"/v1/checkout/sessions/{first.session_id}/expire").status == 200
    with world.database.write() as connection:
        note_session(connection, str(first.session_id), AttemptOutcome.EXPIRED)
    second = world.served()
    assert (second.status, second.reused) == (CheckoutStatus.OPEN, False)
    assert world.view(first.id).status is CheckoutStatus.EXPIRED
