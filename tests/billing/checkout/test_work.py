"""What a buyer can count on, on a real ledger and the sandbox (specs/checkout.md)."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from billing.customers.customers import claim_customer
from billing.errors import CustomerTaken, IdempotencyMismatch, InvalidRequest, NotFound
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


def test_fresh_checkout_costs_five_reads_and_one_create(world: World) -> None:
    known = str(world.sandbox.request("POST", "/v1/customers", {}).body["id"])
    claim_customer("user_1", known, database=world.database, clock=world.clock)
    world.sandbox.log.clear()
    assert world.served().status is CheckoutStatus.OPEN
    reads = world.requests("GET")
    assert len(reads) == 5
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


@pytest.mark.parametrize("status", ["active", "trialing", "past_due", "paused", "incomplete", "unpaid"])
def test_live_subscription_refuses_a_checkout(world: World, status: str) -> None:
    """CHK-7: every status but canceled and incomplete_expired counts."""
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], status)
    again = world.served()
    waiting = status in ("incomplete", "unpaid")
    assert again.status is CheckoutStatus.REFUSED
    assert again.error is not None
    assert again.error["code"] == ("payment_in_progress" if waiting else "already_subscribed")
    assert again.error["subscription_status"] == status
    assert world.sessions("open") == []


@pytest.mark.parametrize("status", ["canceled", "incomplete_expired"])
def test_ended_subscription_does_not_refuse_a_checkout(world: World, status: str) -> None:
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], status)
    assert world.served().status is CheckoutStatus.OPEN


def test_subscription_to_another_product_does_not_refuse_a_checkout(world: World) -> None:
    """CHK-16."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    world.sandbox.seed([{"object": "price", "id": "price_other", "unit_amount": 5, "recurring": {"interval": "month"}}])
    items = [{"price": "price_other"}]
    world.sandbox.give_card(customer_id)
    made = world.sandbox.request("POST", "/v1/subscriptions", {"customer": customer_id, "items": items})
    assert made.status == 200
    assert world.served("commit").status is CheckoutStatus.OPEN


def test_subscription_made_elsewhere_to_our_price_refuses_a_checkout(world: World) -> None:
    """CHK-7, LAN-11: without any tag, by its price."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    items = [{"price": world.catalog.plans["standard"].price}]
    world.sandbox.give_card(customer_id)
    world.sandbox.request("POST", "/v1/subscriptions", {"customer": customer_id, "items": items})
    view = world.served()
    assert view.status is CheckoutStatus.REFUSED
    assert world.sessions("open") == []


def test_delayed_payment_is_in_progress(world: World) -> None:
    """CHK-7."""
    view = world.served()
    world.sandbox.pay(str(view.session_id), delayed=True)
    error = world.served().error
    assert error is not None
    assert error["code"] == "payment_in_progress"


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


def test_first_month_coupon_is_for_first_time_buyers_of_standard(world: World) -> None:
    """CHK-11."""
    view = world.served()
    assert world.sessions()[0]["discounts"] == [{"coupon": "kiloclaw_first_month", "promotion_code": None}]
    world.sandbox.pay(str(view.session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], "canceled")
    again = world.served()
    assert again.status is CheckoutStatus.OPEN
    assert not world.sessions("open")[0]["discounts"]


@pytest.mark.parametrize("ended", ["canceled", "never paid"])
def test_coupon_is_still_there_for_somebody_whose_trial_cost_nothing(world: World, ended: str) -> None:
    """CHK-11, CHK-20: a trial that was ended before the first payment, and one whose first payment never came."""
    ends = int((world.clock.now() + timedelta(days=10)).timestamp())
    plan = world.catalog.plans["standard"]
    plans = {**world.catalog.plans, "standard": plan.model_copy(update={"trial_end": ends})}
    world.catalog = world.catalog.model_copy(update={"plans": plans})
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    subscription = world.objects("subscription")[0]
    assert subscription["status"] == "trialing"
    if ended == "never paid":
        world.sandbox.force_status(subscription["id"], "past_due")
        world.clock.advance(days=11)
    world.sandbox.request("DELETE", f"/v1/subscriptions/{subscription['id']}")
    world.served()
    assert world.sessions("open")[0]["discounts"] == [{"coupon": "kiloclaw_first_month", "promotion_code": None}]


@pytest.mark.parametrize("spoilt", ["refunded", "free"])
def test_coupon_is_spent_by_a_first_month_that_was_refunded_or_free(world: World, spoilt: str) -> None:
    """CHK-20: else a month for nothing would be had again and again."""
    if spoilt == "free":
        plan = world.catalog.plans["standard"]
        plans = {**world.catalog.plans, "standard": plan.model_copy(update={"coupon": "all_of_it"})}
        world.catalog = world.catalog.model_copy(update={"plans": plans})
        world.sandbox.request("POST", "/v1/coupons", {"id": "all_of_it", "percent_off": 100, "duration": "once"})
    view = world.served()
    world.sandbox.pay(str(view.session_id))
    if spoilt == "refunded":
        world.sandbox.request("POST", "/v1/refunds", {"charge": world.objects("charge")[0]["id"]})
    subscription = world.objects("subscription")[0]["id"]
    world.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
    assert world.objects("invoice")[0]["amount_paid"] == (0 if spoilt == "free" else 400)
    world.served()
    assert not world.sessions("open")[0]["discounts"]


@pytest.mark.parametrize(
    ("invoice", "spent"),
    [
        ({"status": "draft"}, False),
        ({"status": "void"}, False),
        ({"status": "open"}, True),
        ({"status": "uncollectible"}, True),
        ({"status": "paid"}, True),
        ({"status": "open", "billing_reason": "subscription_cycle"}, False),
        ({"status": "paid", "billing_reason": "subscription_cycle"}, True),
        ({"status": "paid", "subtotal": 0}, False),
    ],
)
def test_coupon_is_spent_by_an_invoice_that_was_paid_or_began_a_subscription(
    world: World, invoice: dict[str, Any], spent: bool
) -> None:
    """CHK-20: a draft bills nobody yet, a void one was never meant; after a trial a later one is the first."""
    world.sandbox.pay(str(world.served().session_id))
    world.sandbox.force_status(world.objects("subscription")[0]["id"], "canceled")
    [made] = world.objects("invoice")
    world.sandbox.store.put("invoice", {**made, **invoice})
    world.served()
    assert bool(world.sessions("open")[0]["discounts"]) is not spent


def test_commit_has_no_coupon_and_no_promotion_codes(world: World) -> None:
    world.served("commit")
    (session,) = world.sessions()
    assert not session["discounts"]
    assert not session["allow_promotion_codes"]


def test_idempotency_key_gives_the_same_checkout(world: World) -> None:
    """CHK-10."""
    first, second = world.record(key="k"), world.record(key="k")
    assert (first.checkout_id, first.replayed) == (second.checkout_id, False)
    assert second.replayed is True


def test_idempotency_key_with_another_body_is_an_error(world: World) -> None:
    """CHK-10."""
    world.record(key="k")
    with pytest.raises(IdempotencyMismatch):
        world.record("commit", key="k")


def test_idempotency_key_is_per_user_and_kept_for_a_day(world: World) -> None:
    """CHK-10."""
    first = world.record(key="k")
    assert world.record(key="k", user="user_2").replayed is False
    world.clock.advance(hours=24, seconds=1)
    later = world.record("commit", key="k")
    assert (later.replayed, later.checkout_id == first.checkout_id) == (False, False)


def test_concurrent_uses_of_one_key_make_one_checkout(world: World) -> None:
    """CHK-10."""
    with ThreadPoolExecutor(8) as people:
        recorded = list(people.map(lambda _: world.record(key="k"), range(8)))
    assert len({one.checkout_id for one in recorded}) == 1
    assert [one.replayed for one in recorded].count(False) == 1


def test_checkout_is_in_the_ledger_before_a_worker_is_woken(world: World) -> None:
    """CHK-13: the queue, asked at the moment of the send, already finds the row."""
    seen: list[bool] = []
    send = world.queue.send

    def look(job, *, delay_seconds: float = 0) -> None:  # type: ignore[no-untyped-def]
        with world.database.read() as connection:
            seen.append(connection.exec_driver_sql("SELECT count(*) FROM checkouts").scalar() == 1)
        send(job)

    world.queue.send = look  # type: ignore[method-assign]
    world.ask()
    assert seen == [True]


def test_another_user_cannot_read_a_checkout(world: World) -> None:
    view = world.served()
    with pytest.raises(NotFound):
        world.view(view.id, user="user_2")


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"plan": "gold"}, "/plan"),
        ({"quantity": 0}, "/quantity"),
        ({"quantity": 2}, "/quantity"),
        ({"success_url": "https://evil.example/"}, "/success_url"),
        ({"cancel_url": "javascript:alert(1)"}, "/cancel_url"),
        ({"metadata": {"type": "x"}}, "/metadata/type"),
        ({"metadata": {"nonce": "x"}}, "/metadata/nonce"),
        ({"metadata": {"onelane_x": "x"}}, "/metadata/onelane_x"),
        ({"metadata": {"a/b~": ""}}, "/metadata/a~1b~0"),
        ({"metadata": {f"k{n}": "v" for n in range(21)}}, "/metadata"),
    ],
)
def test_bad_request_is_refused_and_records_nothing(world: World, body: dict[str, object], pointer: str) -> None:
    """CHK-12, CHK-9."""
    with pytest.raises(InvalidRequest) as refusal:
        world.record(**{"plan": "standard", **body})  # type: ignore[arg-type]
    assert [one["pointer"] for one in refusal.value.errors] == [pointer]
    assert world.queue.sent == []
    with world.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM checkouts").scalar() == 0


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
    assert [job.kind for job in world.queue.sent] == ["lane.work"]
    assert world.requests() == []
    world.work()
    assert len(world.sessions("open")) == 1
