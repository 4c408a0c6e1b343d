"""Cancel, reactivate, switch, undo, portal: over the sandbox, on both databases, and after a crash anywhere."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.clock import iso
from billing.coordination.jobs import WorkOperations
from billing.database import Database
from billing.errors import IdempotencyMismatch, InvalidRequest, NoSubscription, NotFound
from billing.maintenance.sweep import sweep
from billing.models import OperationStatus, customers, operations
from billing.operations.decide import Kind
from billing.operations.requests import Recorded, read_operation, record_operation
from billing.operations.store import OperationView
from billing.subscriptions.queries import read_subscription
from billing.subscriptions.sync import sync_customer
from tests.races.unlocked import NoLocks
from tests.support.checkout_world import ORIGIN, World
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe

RETURN = {"return_url": f"{ORIGIN}/account"}


class Shop(World):
    """A world in which buyers have a subscription and change it."""

    def subscriber(self, user: str = "user_1", plan: str = "standard") -> str:
        """A user who bought a plan an hour ago; the id of the subscription."""
        view = self.served(plan, user=user)
        paid = self.sandbox.pay(str(view.session_id))
        self.clock.advance(hours=1)
        return str(paid["subscription"])

    def another(self, subscription: str) -> str:
        """A second subscription of the same customer, made elsewhere; its id."""
        made = {"customer": self.at_stripe(subscription)["customer"], "metadata": {"type": self.catalog.product}}
        made |= {"items": [{"price": self.catalog.plans["standard"].price}]}
        another = str(self.sandbox.request("POST", "/v1/subscriptions", made).body["id"])
        self.clock.advance(minutes=1)
        return another

    def change(self, kind: Kind, user: str = "user_1", *, key: str | None = None, **request: Any) -> Recorded:
        """Record an operation."""
        return record_operation(
            kind,
            request,
            user_id=user,
            idempotency_key=key,
            database=self.database,
            queue=self.queue,
            clock=self.clock,
            catalog=self.catalog,
            redirect_origins=[ORIGIN],
        )

    def done(self, kind: Kind, user: str = "user_1", **request: Any) -> OperationView:
        """Record and work it: what became of it."""
        recorded = self.change(kind, user, **request)
        self.work()
        return self.look(recorded.operation_id, user)

    def work(self) -> None:
        """Work what waits; what was put off stays put off, since time stands still."""
        for _ in range(20):
            if self.queue.sent:
                job = self.queue.sent.pop(0)
                work = self.work_operations if isinstance(job, WorkOperations) else self.work_lane
                work(job.row_id)
        self.queue.sent.clear()

    def look(self, operation_id: str, user: str = "user_1") -> OperationView:
        """The operation as its buyer sees it."""
        return read_operation(operation_id, user_id=user, database=self.database, clock=self.clock)

    def lane_of(self, user: str) -> int:
        """The lane of a user."""
        with self.database.read() as connection:
            theirs = sa.select(operations.c.lane_id).where(operations.c.user_id == user)
            return int(connection.execute(theirs).scalars().first() or 0)

    def seen(self, user: str = "user_1") -> dict[str, Any]:
        """What the user reads about their subscription."""
        read = read_subscription(user, database=self.database, catalog=self.catalog, clock=self.clock)
        return read["subscription"] or {}

    def at_stripe(self, subscription_id: str) -> dict[str, Any]:
        """The subscription as Stripe has it."""
        return self.sandbox.request("GET", f"/v1/subscriptions/{subscription_id}").body

    def writes(self) -> list[str]:
        """What was changed at Stripe beyond checkouts, in order."""
        made = [one["path"] for one in self.requests("POST") if one["status"] == 200 and not one["replayed"]]
        words = ("schedules", "/v1/subscriptions/", "portal")
        return [path.removeprefix("/v1/") for path in made if any(word in path for word in words)]

    def sweep(self, **later: float) -> None:
        """Time passes, messages were lost, the sweep wakes what waits."""
        self.clock.advance(**later)
        self.queue.sent.clear()
        sweep(database=self.database, queue=self.queue, clock=self.clock)
        self.work()

    def renew(self, subscription_id: str) -> None:
        """Go to just after the end of the current period, and tell the ledger."""
        item = self.at_stripe(subscription_id)["items"]["data"][0]
        self.clock.advance(seconds=item["current_period_end"] - self.clock.now().timestamp() + 60)


@pytest.fixture
def shop(database: Database) -> Shop:
    """An empty ledger, an empty Stripe."""
    return Shop(database)


# --- what each of them does


def test_cancel_ends_at_the_end_of_the_period_and_can_be_taken_back(shop: Shop) -> None:
    """SUB-31, SUB-33, SUB-36: at Stripe, and in what the user reads right after the answer."""
    subscription = shop.subscriber()

    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is True
    assert (shop.seen()["cancel_at_period_end"], shop.seen()["status"]) == (True, "active")
    assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is False
    assert shop.seen()["cancel_at_period_end"] is False


def test_cancelling_twice_is_refused_and_undoing_nothing_succeeds(shop: Shop) -> None:
    """SUB-31, SUB-33, SUB-35"""
    shop.subscriber()
    assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    assert shop.done(Kind.UNDO_SWITCH).status is OperationStatus.SUCCEEDED
    assert shop.writes() == []
    shop.done(Kind.CANCEL)
    again = shop.done(Kind.CANCEL)
    assert (again.status, (again.error or {})["code"]) == (OperationStatus.REFUSED, "already_canceling")
    assert (again.error or {})["ends_at"] == shop.seen()["current_period_end"]


def test_cancellation_for_a_date_is_taken_back_too(shop: Shop) -> None:
    """SUB-33: somebody set `cancel_at` in the Dashboard."""
    subscription = shop.subscriber()
    at = int((shop.clock.now() + timedelta(days=3)).timestamp())
    shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", {"cancel_at": at})
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "already_canceling"
    assert shop.done(Kind.REACTIVATE).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at"] is None


def test_switch_happens_at_the_end_of_the_period_on_the_same_subscription(shop: Shop) -> None:
    """SUB-34, SUB-36: two phases, one subscription, no proration; the sync completes it."""
    subscription = shop.subscriber()

    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("standard", "commit")
    [schedule] = shop.objects("subscription_schedule")
    assert [phase["items"][0]["price"] for phase in schedule["phases"]] == [
        shop.catalog.plans["standard"].price,
        shop.catalog.plans["commit"].price,
    ]
    assert {phase["proration_behavior"] for phase in schedule["phases"]} == {"none"}
    shop.renew(subscription)
    item = shop.at_stripe(subscription)["items"]["data"][0]
    assert item["price"]["id"] == shop.catalog.plans["commit"].price
    assert len(shop.objects("subscription")) == 1
    again = shop.done(Kind.SWITCH, plan="commit")
    assert (again.error or {})["code"] == "already_on_plan"
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("commit", None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.at_stripe(subscription)["items"]["data"][0]["price"]["id"] == shop.catalog.plans["commit"].price


def test_switch_keeps_what_the_current_period_was_bought_with(shop: Shop) -> None:
    """SUB-34: a discount that still runs stays on the current phase and is not carried to the next."""
    shop.sandbox.seed([{"object": "coupon", "id": "always_half", "percent_off": 50, "duration": "forever"}])
    subscription = shop.subscriber()
    shop.sandbox.request("POST", f"/v1/subscriptions/{subscription}", {"discounts": [{"coupon": "always_half"}]})
    [discount] = shop.at_stripe(subscription)["discounts"]
    shop.done(Kind.SWITCH, plan="commit")
    first, second = shop.objects("subscription_schedule")[0]["phases"]
    assert [one["discount"] for one in first["discounts"]] == [discount]
    assert second["discounts"] == []


def test_switch_is_taken_back_by_releasing_the_schedule(shop: Shop) -> None:
    """SUB-35"""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    assert shop.done(Kind.UNDO_SWITCH).status is OperationStatus.SUCCEEDED
    assert (shop.seen()["plan"], shop.seen()["scheduled_plan"]) == ("standard", None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["items"]["data"][0]["price"]["id"] == shop.catalog.plans["standard"].price


def test_switching_to_another_plan_replaces_the_planned_one(shop: Shop) -> None:
    """SUB-34: also a schedule that was begun and left, by us or in the Dashboard."""
    subscription = shop.subscriber()
    shop.sandbox.request("POST", "/v1/subscription_schedules", {"from_subscription": subscription})
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED
    before = len(shop.writes())
    assert shop.done(Kind.SWITCH, plan="commit").status is OperationStatus.SUCCEEDED, "it is planned already"
    assert len(shop.writes()) == before
    assert len(shop.objects("subscription_schedule")) == 1


def test_cancel_releases_a_planned_switch_first(shop: Shop) -> None:
    """SUB-32"""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    before = len(shop.writes())
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    released, canceled = shop.writes()[before:]
    assert released.endswith("/release")
    assert canceled == f"subscriptions/{subscription}"
    assert (shop.seen()["cancel_at_period_end"], shop.seen()["scheduled_plan"]) == (True, None)
    shop.renew(subscription)
    assert shop.at_stripe(subscription)["status"] == "canceled"


def test_cancel_goes_on_when_the_schedule_was_released_by_somebody_else(shop: Shop) -> None:
    """SUB-32: between our look and our release."""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    real = shop.stripe.release_schedule

    def late(schedule_id: str, *, idempotency_key: str) -> None:
        shop.sandbox.request("POST", f"/v1/subscription_schedules/{schedule_id}/release")
        real(schedule_id, idempotency_key=idempotency_key)

    shop.stripe.release_schedule = late  # type: ignore[method-assign]
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is True


def test_cancel_stops_and_says_so_when_the_schedule_cannot_be_released(shop: Shop) -> None:
    """SUB-32: any other refusal."""
    subscription = shop.subscriber()
    shop.done(Kind.SWITCH, plan="commit")
    shop.sandbox.faults.add("status", status=400, path="/release$")
    view = shop.done(Kind.CANCEL)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "stripe_refused")
    assert "nothing else was changed" in (view.error or {})["detail"]
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is False
    assert shop.seen()["scheduled_plan"] == "commit"


def test_refused_switch_leaves_no_schedule_behind(shop: Shop) -> None:
    """SUB-34: the price of the next plan is not sold any more, say."""
    subscription = shop.subscriber()
    price = shop.catalog.plans["commit"].price
    assert shop.sandbox.request("POST", f"/v1/prices/{price}", {"active": "false"}).status == 200
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "stripe_refused")
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.seen()["scheduled_plan"] is None


def test_switch_that_fails_for_want_of_a_permission_removes_its_schedule_once_it_may(shop: Shop) -> None:
    """SUB-34: the key may make schedules and not change them; then the operator mends that."""
    subscription = shop.subscriber()
    shop.sandbox.faults.add("status", status=403, method="POST", path="^/v1/subscription_schedules/", times=3)
    view = shop.done(Kind.SWITCH, plan="commit")
    assert (view.status, view.trouble) == (OperationStatus.PENDING, "misconfigured")
    for _ in range(4):
        shop.sweep(minutes=10)
    view = shop.look(view.id)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.FAILED, "misconfigured")
    assert shop.at_stripe(subscription)["schedule"] is None
    assert shop.seen()["scheduled_plan"] is None


def test_switch_is_refused_while_the_subscription_is_about_to_end(shop: Shop) -> None:
    """SUB-34"""
    shop.subscriber()
    shop.done(Kind.CANCEL)
    assert (shop.done(Kind.SWITCH, plan="commit").error or {})["code"] == "already_canceling"
    assert shop.objects("subscription_schedule") == []


def test_portal_address_is_for_its_buyer_and_for_minutes(shop: Shop) -> None:
    """SUB-38: it is forgotten by the ledger, too."""
    shop.subscriber()
    recorded = shop.change(Kind.PORTAL, **RETURN)
    shop.work()
    view = shop.look(recorded.operation_id)
    assert view.status is OperationStatus.SUCCEEDED
    assert "/portal/" in str(view.url)
    shop.clock.advance(minutes=5)
    assert shop.look(recorded.operation_id).url is None
    shop.sweep(seconds=0)
    with shop.database.read() as connection:
        assert connection.execute(sa.select(operations.c.url)).scalars().all() == [None]
    with pytest.raises(NotFound):
        shop.look(recorded.operation_id, "user_2")


def test_portal_address_is_never_logged(shop: Shop, capsys: pytest.CaptureFixture[str]) -> None:
    """SUB-38"""
    shop.subscriber()
    view = shop.done(Kind.PORTAL, **RETURN)
    written = capsys.readouterr()
    assert "operation.finished" in written.out
    assert str(view.url).rpartition("/")[2] not in written.out + written.err


# --- who may, and what is refused


@pytest.mark.parametrize("kind", [Kind.CANCEL, Kind.REACTIVATE, Kind.UNDO_SWITCH])
def test_nothing_to_change_without_a_subscription(shop: Shop, kind: Kind) -> None:
    """SUB-37: never a customer; a customer who paid nothing; one whose subscription is over."""
    with pytest.raises(NoSubscription):
        shop.change(kind)
    with shop.database.read() as connection:
        assert connection.execute(sa.select(customers)).all() == []
    shop.served()
    assert (shop.done(kind).error or {})["code"] == "no_subscription"
    subscription = shop.subscriber("user_2")
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{subscription}")
    assert (shop.done(kind, "user_2").error or {})["code"] == "no_subscription"


def test_customer_who_is_deleted_at_stripe_has_nothing_to_change(shop: Shop) -> None:
    """SUB-37"""
    shop.subscriber()
    [customer] = shop.objects("customer")
    shop.sandbox.request("DELETE", f"/v1/customers/{customer['id']}")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "no_subscription"
    assert (shop.done(Kind.PORTAL, **RETURN).error or {})["code"] == "no_subscription"


def test_first_payment_that_is_not_settled_is_in_the_way(shop: Shop) -> None:
    """SUB-37"""
    shop.sandbox.force_status(shop.subscriber(), "incomplete")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "payment_in_progress"


def test_other_products_subscription_is_never_touched(shop: Shop) -> None:
    """SUB-37"""
    shop.served()
    [customer] = shop.objects("customer")
    shop.sandbox.seed(
        [
            {"object": "product", "id": "prod_x", "name": "Other"},
            {
                "object": "price",
                "id": "price_x",
                "product": "prod_x",
                "unit_amount": 1,
                "currency": "usd",
                "recurring": {"interval": "month"},
            },
        ]
    )
    shop.sandbox.request("POST", "/v1/subscriptions", {"customer": customer["id"], "items": [{"price": "price_x"}]})
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "no_subscription"
    assert shop.writes() == []


def test_subscription_that_stripes_list_does_not_show_yet_can_be_changed(shop: Shop) -> None:
    """SUB-37: its user is shown it, since a paid session or an event named it."""
    paid = shop.sandbox.pay(str(shop.served().session_id))
    sync_customer(
        paid["customer"],
        database=shop.database,
        stripe=shop.stripe,
        clock=shop.clock,
        catalog=shop.catalog,
        subscriptions=[paid["subscription"]],
    )
    shop.sandbox.faults.add("stale_list", method="GET", path="/v1/", seconds=60, times=None)
    assert shop.seen()["status"] == "active"
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(paid["subscription"])["cancel_at_period_end"] is True


@pytest.mark.parametrize("call", ["update_subscription", "get_subscription"])
def test_operation_goes_on_with_the_subscription_that_is_left(shop: Shop, call: str) -> None:
    """SUB-37: of two, the one that it chose is ended by somebody else, before its write or after it."""
    first = shop.subscriber()
    second = shop.another(first)
    real, done = getattr(shop.stripe, call), []

    def ended_first(*arguments: Any, **options: Any) -> Any:
        if not done and (call == "update_subscription" or shop.at_stripe(second)["cancel_at_period_end"]):
            done.append(shop.sandbox.request("DELETE", f"/v1/subscriptions/{second}"))
        return real(*arguments, **options)

    setattr(shop.stripe, call, ended_first)
    assert shop.done(Kind.CANCEL).status is OperationStatus.SUCCEEDED
    assert done, "the newest is the one that is shown"
    assert shop.at_stripe(first)["cancel_at_period_end"] is True
    assert (shop.seen()["id"], shop.seen()["cancel_at_period_end"]) == (first, True)


def test_operation_never_turns_to_what_was_bought_after_it(shop: Shop) -> None:
    """SUB-37: Stripe was away, the subscription ended, and its user bought anew."""
    first = shop.subscriber()
    shop.sandbox.faults.add("drop_before", method="POST", path=f"^/v1/subscriptions/{first}$", times=6)
    recorded = shop.change(Kind.CANCEL)
    shop.work()
    shop.clock.advance(minutes=10)
    shop.sandbox.faults.clear()
    shop.sandbox.request("DELETE", f"/v1/subscriptions/{first}")
    second = shop.another(first)
    shop.sweep(minutes=10)
    view = shop.look(recorded.operation_id)
    assert (view.status, (view.error or {})["code"]) == (OperationStatus.REFUSED, "no_subscription")
    assert shop.at_stripe(second)["cancel_at_period_end"] is False


@pytest.mark.parametrize(
    ("kind", "request_", "pointer"),
    [
        (Kind.SWITCH, {"plan": "gold"}, "/plan"),
        (Kind.PORTAL, {"return_url": "https://evil.example"}, "/return_url"),
        (Kind.PORTAL, {"return_url": f"{ORIGIN}@evil.example/"}, "/return_url"),
    ],
)
def test_what_makes_no_sense_is_refused_at_once(shop: Shop, kind: Kind, request_: dict[str, str], pointer: str) -> None:
    """SUB-37"""
    shop.served()
    with pytest.raises(InvalidRequest) as refused:
        shop.change(kind, **request_)
    assert refused.value.errors[0]["pointer"] == pointer


def test_same_key_is_the_same_operation_and_other_words_are_refused(shop: Shop) -> None:
    """SUB-37"""
    shop.subscriber()
    first = shop.change(Kind.CANCEL, key="k")
    shop.work()
    again = shop.change(Kind.CANCEL, key="k")
    assert (again.operation_id, again.replayed) == (first.operation_id, True)
    with pytest.raises(IdempotencyMismatch):
        shop.change(Kind.SWITCH, key="k", plan="commit")
    shop.sweep(hours=25)
    assert shop.change(Kind.SWITCH, key="k", plan="commit").replayed is False


def test_second_press_of_a_button_waits_for_the_first_ones_answer(shop: Shop) -> None:
    """SUB-37: what waits and is equal is one operation."""
    shop.subscriber()
    first, second = shop.change(Kind.CANCEL), shop.change(Kind.CANCEL)
    assert first.operation_id == second.operation_id
    other, third = shop.change(Kind.REACTIVATE), shop.change(Kind.CANCEL)
    assert third.operation_id != first.operation_id
    shop.work()
    assert {shop.look(id_.operation_id).status for id_ in (first, other, third)} == {OperationStatus.SUCCEEDED}
    assert shop.seen()["cancel_at_period_end"] is True, "in the order in which they came"


# --- crashes, faults, several at once


def _plain(shop: Shop, user: str) -> None:
    shop.subscriber(user)


def _scheduled(shop: Shop, user: str) -> None:
    shop.subscriber(user)
    shop.done(Kind.SWITCH, user, plan="commit")


def _canceled(shop: Shop, user: str) -> None:
    shop.subscriber(user)
    shop.done(Kind.CANCEL, user)


STORIES: dict[str, tuple[Callable[[Shop, str], None], Kind, dict[str, str], dict[str, Any]]] = {
    "cancel": (_plain, Kind.CANCEL, {}, {"cancel_at_period_end": True, "scheduled_plan": None}),
    "cancel a planned switch": (_scheduled, Kind.CANCEL, {}, {"cancel_at_period_end": True, "scheduled_plan": None}),
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
        expected = {"cancel": 1, "cancel a planned switch": 2, "reactivate": 1, "switch": 2, "undo": 1, "portal": 1}
        assert len(shop.writes()) - written == expected[name], (steps, shop.writes()[written:])
        assert {field: shop.seen(user)[field] for field in after} == after, steps
        if not fuse.burnt:
            break
    assert 6 < steps < 99


@pytest.mark.parametrize("name", ["cancel", "cancel a planned switch", "reactivate", "switch", "undo", "portal"])
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


def test_key_that_may_not_do_it_ends_the_operation(shop: Shop) -> None:
    """SUB-30: a refusal that asking again does not change."""
    subscription = shop.subscriber()
    shop.sandbox.faults.add("status", status=403, method="POST")
    assert (shop.done(Kind.CANCEL).error or {})["code"] == "misconfigured"
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is False


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
            assert shop.at_stripe(subscription)["cancel_at_period_end"] is False
        real(*arguments, **options)

    shop.stripe.update_subscription = freeze  # type: ignore[method-assign]
    shop.work()
    assert held
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is False


def test_call_whose_key_stripe_may_have_forgotten_is_not_sent_again(shop: Shop) -> None:
    """SUB-30: what it did is looked at instead."""
    subscription = shop.subscriber()
    recorded = shop.change(Kind.CANCEL)
    shop.sandbox.faults.add("drop_after", method="POST")
    shop.work()
    shop.sweep(hours=21)
    assert shop.look(recorded.operation_id).status is OperationStatus.SUCCEEDED
    assert shop.at_stripe(subscription)["cancel_at_period_end"] is True
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


def test_checkout_after_a_cancellation_is_refused_until_the_end(shop: Shop) -> None:
    """SUB-39: a subscription that is about to end still counts."""
    subscription = shop.subscriber()
    shop.done(Kind.CANCEL)
    assert (shop.served().error or {})["code"] == "already_subscribed"
    shop.renew(subscription)
    assert shop.served().url is not None


def test_of_several_subscriptions_the_one_that_is_shown_is_changed(shop: Shop) -> None:
    """SUB-37: cancelling again cancels the next one."""
    shop.subscriber()
    [customer] = shop.objects("customer")
    items = [{"price": shop.catalog.plans["standard"].price, "quantity": 1}]
    asked = {"customer": customer["id"], "items": items, "metadata": {"type": "kiloclaw"}}
    shop.sandbox.request("POST", "/v1/subscriptions", asked)
    shop.done(Kind.CANCEL)
    assert shop.seen()["cancel_at_period_end"] is False
    shop.done(Kind.CANCEL)
    assert all(one["cancel_at_period_end"] for one in shop.objects("subscription"))
    assert shop.seen()["cancel_at_period_end"] is True
    assert iso(shop.clock.now()) is not None
