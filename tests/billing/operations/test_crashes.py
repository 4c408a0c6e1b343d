"""Operations after a crash at any step, with answers lost, and several at once."""

from collections.abc import Callable
from typing import Any

import pytest

from billing.coordination.jobs import WorkOperations
from billing.models import OperationStatus, operations
from billing.operations.calls import Kind
from billing.operations.work import work_operations
from tests.races.unlocked import LapsedLocks, NoLocks
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe
from tests.support.operations_world import RETURN, Shop


def _plain(shop: Shop, user: str) -> None:
    shop.subscriber(user)


def _scheduled(shop: Shop, user: str) -> None:
    shop.subscriber(user)
    shop.done(Kind.SWITCH, user, plan="commit")


def _canceled(shop: Shop, user: str) -> None:
    shop.subscriber(user)
    shop.done(Kind.CANCEL, user)


def _two(shop: Shop, user: str) -> None:
    shop.another(shop.subscriber(user))


STORIES: dict[str, tuple[Callable[[Shop, str], None], Kind, dict[str, str], dict[str, Any]]] = {
    "cancel": (_plain, Kind.CANCEL, {}, {"cancel_at_period_end": True, "scheduled_plan": None}),
    "cancel a planned switch": (_scheduled, Kind.CANCEL, {}, {"cancel_at_period_end": True, "scheduled_plan": None}),
    "cancel two": (_two, Kind.CANCEL, {}, {"cancel_at_period_end": True, "scheduled_plan": None}),
    "reactivate": (_canceled, Kind.REACTIVATE, {}, {"cancel_at_period_end": False}),
    "switch": (_plain, Kind.SWITCH, {"plan": "commit"}, {"scheduled_plan": "commit"}),
    "undo": (_scheduled, Kind.UNDO_SWITCH, {}, {"scheduled_plan": None, "cancel_at_period_end": False}),
    "portal": (_plain, Kind.PORTAL, RETURN, {}),
}


@pytest.mark.parametrize("name", STORIES)
def test_crash_at_every_step_is_finished_by_running_it_again(shop: Shop, name: str) -> None:
    """SUB-30: whatever the process died at, the answer and Stripe are as if it had not."""
    before, kind, request, after = STORIES[name]
    for steps in range(1, 100):
        user = f"user_{steps}"
        before(shop, user)
        written = len(shop.writes())
        recorded = shop.change(kind, user, **request)
        lane, fuse = shop.lane_of(user), Fuse(steps)
        try:
            shop.work_operations(
                lane, stripe=FusedStripe(shop.stripe, fuse), database=FusedDatabase(shop.database, fuse)
            )
        except Crash:
            shop.sweep(seconds=30)
        view = shop.look(recorded.operation_id, user)
        assert (view.status, view.error) == (OperationStatus.SUCCEEDED, None), steps
        expected = {"cancel a planned switch": 2, "cancel two": 2, "switch": 2}
        assert len(shop.writes()) - written == expected.get(name, 1), (steps, shop.writes()[written:])
        assert {field: shop.seen(user)[field] for field in after} == after, steps
        if not fuse.burnt:
            break
    assert 6 < steps < 99


@pytest.mark.parametrize("name", STORIES)
@pytest.mark.parametrize(
    "kind",
    ["drop_before", "drop_after", "save_500_with_effect", "save_500_without_effect", "html", "truncated", 429, 503],
)
def test_failure_in_passing_is_tried_again_by_the_sweep(shop: Shop, name: str, kind: str | int) -> None:
    """SUB-30: each write's answer is lost once, or says that it failed."""
    before, what, request, after = STORIES[name]
    before(shop, "user_1")
    recorded = shop.change(what, **request)
    if isinstance(kind, int):
        shop.sandbox.faults.add("status", status=kind, method="POST")
    else:
        shop.sandbox.faults.add(kind, method="POST")
    shop.work()
    for _ in range(6):
        shop.sweep(minutes=11)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED
    assert {field: shop.seen()[field] for field in after} == after
    assert len([one for one in shop.objects("subscription_schedule") if one["status"] == "active"]) <= 1


def test_buyer_is_told_of_trouble_and_the_next_one_waits_its_turn(shop: Shop) -> None:
    """SUB-30: in doubt nothing else is done."""
    shop.subscriber()
    first = shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("status", status=503, times=None)
    shop.work()
    assert shop.look(first.operation_id).trouble == "stripe_unavailable"
    second = shop.change(Kind.REACTIVATE)
    shop.sandbox.faults.clear()
    shop.work()
    assert shop.look(second.operation_id).status is OperationStatus.PENDING
    shop.sweep(minutes=11)
    states = [shop.look(one.operation_id).status for one in (first, second)]
    assert states == [OperationStatus.SUCCEEDED] * 2
    assert shop.seen()["cancel_at_period_end"] is False


def test_waits_begin_anew_with_a_write_that_is_answered(shop: Shop) -> None:
    """SUB-30: of two subscriptions, the one that is shown is ended first, after a while."""
    first = shop.subscriber()
    second = shop.another(first)
    recorded = shop.change(Kind.CANCEL)
    for subscription, times in ((second, 5), (first, 1)):
        path = f"^/v1/subscriptions/{subscription}$"
        shop.sandbox.faults.add("status", status=503, method="POST", path=path, times=times)
    shop.work()
    for _ in range(5):
        shop.sweep(minutes=11)
    assert (shop.is_ending(second), shop.is_ending(first)) == (True, False)
    [row] = shop.rows(operations)
    assert (row.failures, row.last_error) == (1, "stripe_unavailable")
    shop.sweep(seconds=1)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED


def test_trouble_is_over_with_a_write_that_is_answered(shop: Shop) -> None:
    """SUB-30: a worker that dies afterwards leaves no trouble of before to be read."""
    subscription = shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("status", status=503, method="POST")
    shop.work()
    assert shop.look(recorded.operation_id).trouble == "stripe_unavailable"
    shop.clock.advance(minutes=11)
    real = shop.stripe.list_subscriptions

    def dies(customer_id: str) -> Any:
        if shop.is_ending(subscription):
            raise Crash
        return real(customer_id)

    shop.stripe.list_subscriptions = dies  # type: ignore[method-assign]
    with pytest.raises(Crash):
        shop.work_operations(shop.lane_of("user_1"))
    view = shop.look(recorded.operation_id)
    assert (view.status, view.trouble) == (OperationStatus.PENDING, None)


def test_stripe_that_asks_to_slow_down_is_no_failure_of_the_operation(shop: Shop) -> None:
    """SUB-30: it is tried again soon, however often."""
    shop.subscriber()
    shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("status", status=429, method="POST")
    shop.work_operations(shop.lane_of("user_1"))
    [row] = shop.rows(operations)
    assert (row.failures, row.status, row.next_attempt_at is not None) == (0, "pending", True)


def test_wake_up_that_comes_too_early_comes_again(shop: Shop) -> None:
    """SUB-30: after a first failure, within the second that has to pass."""
    shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("status", status=503, method="POST")
    shop.work_operations(shop.lane_of("user_1"))
    job = WorkOperations(shop.lane_of("user_1"))
    shop.queue.sent.clear()
    shop.work_operations(job.row_id)
    assert shop.queue.sent == [job]
    assert 0 < shop.queue.delays[job] <= 1
    shop.clock.advance(seconds=1)
    shop.work()
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED


def test_worker_whose_lock_lapsed_leaves_the_rest_to_the_next_one(shop: Shop) -> None:
    """SUB-39: it does nothing more, and sees to it that somebody does. That is no failure."""
    shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    lane = shop.lane_of("user_1")
    shop.queue.sent.clear()
    before = len(shop.requests())
    assert work_operations(lane, shop.context(locks=LapsedLocks())) is True
    assert (shop.queue.sent, len(shop.requests())) == ([WorkOperations(lane)], before)
    shop.work()
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED


def test_trouble_is_nobody_elses(shop: Shop) -> None:
    """SUB-30: another buyer's operation waits for nothing."""
    shop.subscriber()
    shop.subscriber("user_2")
    own = shop.change(Kind.CANCEL)
    anothers = shop.change(Kind.CANCEL, "user_2")
    shop.sandbox.faults.add("status", status=503, method="POST")
    shop.work_operations(shop.lane_of("user_1"))
    assert shop.look(own.operation_id).trouble == "stripe_unavailable"
    assert shop.look(anothers.operation_id, "user_2").trouble is None
    shop.work_operations(shop.lane_of("user_2"))
    assert shop.look(anothers.operation_id, "user_2").status is OperationStatus.SUCCEEDED


@pytest.mark.parametrize(("name", "lost"), [("cancel", True), ("cancel", False), ("switch", True), ("portal", False)])
def test_key_that_stripe_calls_anothers_is_judged_by_what_stripe_has(shop: Shop, name: str, lost: bool) -> None:
    """SUB-142: the first answer is `lost`; a later version sends the same with other words, or to another API."""
    before, kind, request, after = STORIES[name]
    before(shop, "user_1")
    recorded = shop.change(kind, **request)
    if lost:
        shop.sandbox.faults.add("drop_after", method="POST")
    shop.sandbox.faults.add("status", method="POST", status=400, code="idempotency_error")
    shop.work()
    shop.sweep(minutes=2)
    view = shop.look(recorded.operation_id)
    assert (view.status, view.error) == (OperationStatus.SUCCEEDED, None)
    assert {field: shop.seen("user_1")[field] for field in after} == after


def test_key_that_may_not_do_it_ends_the_operation(shop: Shop) -> None:
    """SUB-30: a refusal that asking again does not change."""
    subscription = shop.subscriber()
    shop.sandbox.faults.add("status", status=403, method="POST")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "misconfigured"
    assert shop.is_ending(subscription) is False


def test_wish_that_was_carried_out_does_not_fail_for_a_look_that_is_refused(shop: Shop) -> None:
    """SUB-36: the sync at the end meets a 401; it is tried again."""
    shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    real = shop.stripe.update_subscription

    def then_refused(*arguments: Any, **options: Any) -> None:
        real(*arguments, **options)
        shop.sandbox.faults.add("status", status=401)

    shop.stripe.update_subscription = then_refused  # type: ignore[method-assign]
    shop.work()
    assert shop.look(recorded.operation_id).status is OperationStatus.PENDING
    shop.sweep(minutes=11)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED


def test_worker_that_slept_with_an_old_call_in_hand_changes_nothing(shop: Shop) -> None:
    """SUB-30: it plans a cancellation and freezes; another one finishes it, and a reactivation after it."""
    subscription = shop.subscriber()
    shop.change(Kind.CANCEL)
    real, held = shop.stripe.update_subscription, []

    def freeze(*arguments: Any, **options: Any) -> None:
        if not held:
            held.append((arguments, options))
            shop.stripe.update_subscription = real  # type: ignore[method-assign]
            # Meanwhile somebody presses the same button in Stripe's portal, and the other worker goes on from the row.
            shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", {"cancel_at_period_end": "true"})
            shop.work_operations(locks=NoLocks())
            shop.change(Kind.REACTIVATE)
            shop.work_operations(locks=NoLocks())
            assert shop.is_ending(subscription) is False
        real(*arguments, **options)

    shop.stripe.update_subscription = freeze  # type: ignore[method-assign]
    shop.work()
    assert held
    assert shop.is_ending(subscription) is False


def test_call_whose_key_stripe_may_have_forgotten_is_not_sent_again(shop: Shop) -> None:
    """SUB-30: what it did is looked at instead."""
    subscription = shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("drop_after", method="POST")
    shop.work()
    shop.sweep(hours=21)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED
    assert shop.is_ending(subscription) is True
    assert shop.writes() == [], "the one whose answer was lost, and no other"


def test_operations_and_checkouts_of_one_customer_share_a_lock(shop: Shop) -> None:
    """SUB-39: who finds it taken comes back later."""
    shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    with shop.locks.hold(f"lane:{shop.lane_of('user_1')}"):
        shop.queue.sent.clear()
        shop.work_operations(shop.lane_of("user_1"))
        assert shop.queue.sent == [WorkOperations(shop.lane_of("user_1"))]
        assert shop.look(recorded.operation_id).status is OperationStatus.PENDING
    shop.work()
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED
