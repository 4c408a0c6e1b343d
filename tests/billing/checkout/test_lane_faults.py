"""The protocol when Stripe fails, answers late, refuses or is paid at the wrong moment (specs/lanes.md, faults.md)."""

from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from billing.checkout.rules import BACKOFF, SESSION_LIFETIME
from billing.database import Database
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, lanes
from tests.support.checkout_world import UNCLEAR, World
from tests.support.crashing import Crash, Fuse, FusedDatabase, FusedStripe

SESSIONS, EXPIRE = "^/v1/checkout/sessions$", "/expire$"


def settle(world: World, checkout_id: str, *, user: str = "user_1", lane_id: int = 1) -> Any:
    """Let time pass and workers try until the checkout is answered; the answer."""
    for _ in range(20):
        world.work_lane(lane_id)
        view = world.view(checkout_id, user=user)
        if view.status is not CheckoutStatus.PENDING:
            return view
        world.clock.advance(seconds=61)
    raise AssertionError("the checkout is stuck")


def lane(world: World) -> Any:
    """The lane's row."""
    with world.database.read() as connection:
        return connection.execute(sa.select(lanes)).one()


def attempt_rows(world: World) -> list[Any]:
    """Every attempt, oldest first."""
    with world.database.read() as connection:
        return list(connection.execute(sa.select(attempts).order_by(attempts.c.created_at)))


@pytest.mark.parametrize(
    ("kind", "fields"),
    [*UNCLEAR, ("redirect", {"status": 302}), *(("status", {"status": status}) for status in (502, 503, 504))],
)
def test_unclear_answer_to_a_creation_is_sent_again_with_the_same_key(
    world: World, kind: str, fields: dict[str, Any]
) -> None:
    """LAN-7, faults 31, 34, 35, 38, 46: one key, one session, whatever became of the first request."""
    world.sandbox.faults.add(kind, method="POST", path=SESSIONS, **fields)
    checkout_id = world.ask()
    world.work_lane()
    assert world.view(checkout_id).status is CheckoutStatus.PENDING
    assert world.view(checkout_id).trouble == "stripe_unavailable"
    assert settle(world, checkout_id).status is CheckoutStatus.OPEN
    keys = [one["idempotency_key"] for one in world.requests("POST", "/v1/checkout/sessions")]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert world.creates() == 1


@pytest.mark.parametrize("kind", ["save_500_with_effect", "save_500_without_effect"])
def test_saved_500_ends_with_one_session(world: World, kind: str) -> None:
    """LAN-17, faults 32, 33: found by its nonce when it was made, replaced once the key is spent when it was not."""
    world.sandbox.faults.add(kind, method="POST", path=SESSIONS)
    view = settle(world, world.ask())
    assert view.status is CheckoutStatus.OPEN
    assert world.creates() == 1
    assert [row.outcome for row in attempt_rows(world)] == (
        [None] if kind == "save_500_with_effect" else [AttemptOutcome.REFUSED, None]
    )


def test_creation_that_comes_to_nothing_is_replaced_in_the_same_pass(world: World) -> None:
    """LAN-17: the buyer has waited long enough."""
    world.sandbox.faults.add("save_500_without_effect", method="POST", path=SESSIONS)
    checkout_id = world.ask()
    world.work_lane()
    world.clock.advance(minutes=1)
    world.work_lane()
    assert world.view(checkout_id).status is CheckoutStatus.OPEN


def test_lagging_list_does_not_hide_what_a_saved_500_made_for_ever(world: World) -> None:
    """LAN-17: not found at the first look is not yet gone; looked for again before the key is given up."""
    world.sandbox.faults.add("save_500_with_effect", method="POST", path=SESSIONS)
    world.sandbox.faults.add("stale_list", method="GET", path=SESSIONS, seconds=3600, times=2)
    view = settle(world, world.ask())
    assert view.status is CheckoutStatus.OPEN
    assert len(world.sessions("open")) == 1


def test_worker_frozen_for_a_day_creates_nothing(world: World) -> None:
    """LAN-6, fault 37: Stripe refuses the old attempt by its expires_at, and a new one takes its place."""
    world.sandbox.faults.add("drop_before", method="POST", path=SESSIONS)
    checkout_id = world.ask()
    world.work_lane()
    world.clock.advance(hours=25)
    view = settle(world, checkout_id)
    assert view.status is CheckoutStatus.OPEN
    assert world.creates() == 1
    first, second = attempt_rows(world)
    assert (first.outcome, second.outcome) == (AttemptOutcome.REFUSED, None)
    assert first.idempotency_key != second.idempotency_key


def test_attempt_is_stored_whole_before_it_is_sent(world: World) -> None:
    """LAN-6: at the moment of the POST the row is committed, with what is being sent."""
    stored: list[Any] = []
    create = world.stripe.create_session

    def look(parameters: Any, *, idempotency_key: str) -> str:
        (row,) = attempt_rows(world)
        stored.append(row.idempotency_key == idempotency_key and row.parameters == parameters)
        assert row.expires_at <= world.clock.now() + SESSION_LIFETIME
        assert lane(world).state == LaneState.CREATING
        return create(parameters, idempotency_key=idempotency_key)

    world.stripe.create_session = look  # type: ignore[method-assign]
    world.served()
    assert stored == [True]


def test_only_the_id_is_taken_from_the_answer_to_a_creation(world: World) -> None:
    """LAN-13: a replayed body says `open` and names a URL; the session has been expired meanwhile."""
    world.sandbox.faults.add("drop_after", method="POST", path=SESSIONS)
    checkout_id = world.ask()
    world.work_lane()
    (made,) = world.sessions()
    world.sandbox.request("POST", f"/v1/checkout/sessions/{made['id']}/expire")
    view = settle(world, checkout_id)
    assert view.session_id != made["id"]
    assert [one["id"] for one in world.sessions("open")] == [view.session_id]


def test_closing_is_committed_before_the_expire_is_sent(world: World) -> None:
    """LAN-10: while the expire is on its way, the URL is not given out any more."""
    first = world.served()
    seen: list[Any] = []
    expire = world.stripe.expire_session

    def look(session_id: str) -> None:
        seen.append((lane(world).state, world.view(first.id).url))
        expire(session_id)

    world.stripe.expire_session = look  # type: ignore[method-assign]
    world.served("commit")
    assert seen == [(LaneState.CLOSING, None)]


def test_unclear_expire_leaves_the_lane_closing_until_stripe_is_clear(world: World) -> None:
    """LAN-8, LAN-14, fault 39: nothing is created while nobody knows whether the old session can be paid."""
    world.served()
    world.sandbox.faults.add("drop_before", method="POST", path=EXPIRE, times=3)
    checkout_id = world.ask("commit")
    world.work_lane()
    assert lane(world).state == LaneState.CLOSING
    assert world.creates() == 1
    assert settle(world, checkout_id).status is CheckoutStatus.OPEN
    assert len(world.sessions("open")) == 1


def test_refused_expire_of_a_session_that_is_still_open_waits(world: World) -> None:
    """LAN-8: a 400 alone proves nothing."""
    world.served()
    world.sandbox.faults.add("status", method="POST", path=EXPIRE, status=400, times=2)
    checkout_id = world.ask("commit")
    world.work_lane()
    assert (lane(world).state, world.creates()) == (LaneState.CLOSING, 1)
    assert settle(world, checkout_id).status is CheckoutStatus.OPEN
    assert len(world.sessions("open")) == 1


@pytest.mark.parametrize("status", [401, 403])
def test_expire_that_the_key_may_not_do_is_tried_again_by_the_sweep(world: World, status: int) -> None:
    """LAN-8, LAN-14: the buyer is told, the lane waits ten minutes, and then its page is closed."""
    world.served()
    world.ask(user="user_2")
    world.sandbox.faults.add("status", method="POST", path=EXPIRE, status=status, times=None)
    refused = world.ask("commit")
    world.work_lane()
    assert world.view(refused).status is CheckoutStatus.FAILED
    first, second = world.rows(lanes)
    assert (first.state, first.last_error) == (LaneState.CLOSING, "misconfigured")
    assert first.next_attempt_at == world.clock.now() + BACKOFF.longest
    assert (second.last_error, second.next_attempt_at) == (None, None)
    world.sandbox.faults.clear()
    world.clock.advance(seconds=BACKOFF.longest.total_seconds())
    world.work_lane()
    assert (world.rows(lanes)[0].state, world.sessions("open")) == (LaneState.CLOSED, [])


def test_session_that_is_gone_does_not_block(world: World) -> None:
    """CHK-5: an expire that finds nothing, or something expired already, goes on."""
    first = world.served()
    world.sandbox.request("POST", f"/v1/checkout/sessions/{first.session_id}/expire")
    assert world.served("commit").status is CheckoutStatus.OPEN


@pytest.mark.parametrize("path", ["^/v1/subscriptions$", SESSIONS])
@pytest.mark.parametrize("kind", ["drop_before", "html", "truncated"])
def test_nothing_is_created_while_reads_fail(world: World, path: str, kind: str) -> None:
    """LAN-14, CHK-5: in doubt the answer is "later", and later comes."""
    world.served()
    world.clock.advance(seconds=1000)
    world.sandbox.faults.add(kind, method="GET", path=path, times=None, status=502)
    checkout_id = world.ask()
    for _ in range(5):
        world.work_lane()
        world.clock.advance(seconds=61)
    assert world.view(checkout_id).status is CheckoutStatus.PENDING
    assert world.creates() == 1
    world.sandbox.faults.clear()
    assert settle(world, checkout_id).status is CheckoutStatus.OPEN


@pytest.mark.parametrize("kind", ["drop_before", "html", "truncated"])
def test_nothing_is_answered_while_the_session_cannot_be_read(world: World, kind: str) -> None:
    """LAN-14, LAN-11: the lane's own session is fetched by id before its URL is given out."""
    world.served()
    world.clock.advance(seconds=1000)
    world.sandbox.faults.add(kind, method="GET", path="/v1/checkout/sessions/cs_", times=None, status=502)
    checkout_id = world.ask()
    for _ in range(5):
        world.work_lane()
        world.clock.advance(seconds=61)
    assert world.view(checkout_id).status is CheckoutStatus.PENDING
    assert len(world.sessions("open")) == 1
    world.sandbox.faults.clear()
    assert settle(world, checkout_id).status is CheckoutStatus.OPEN
    assert len(world.sessions("open")) == 1


@pytest.mark.parametrize(("status", "most", "counted"), [(429, 8, False), (503, 16, True)])
def test_failures_wait_longer_each_time_and_as_long_as_stripe_asks(
    world: World, status: int, most: int, counted: bool
) -> None:
    """LAN-16, WHK-120, fault 31: no storm: 60 s of it cost a handful of requests; a busy Stripe is no failure."""
    world.sandbox.faults.add("status", path="/v1", status=status, times=None, headers={"Retry-After": "7"})
    world.ask()
    world.work_lane()
    assert lane(world).next_attempt_at >= world.clock.now() + timedelta(seconds=7)
    world.sandbox.log.clear()
    for _ in range(60):
        world.clock.advance(seconds=1)
        world.work_lane()
    assert 1 <= len(world.requests()) <= most
    assert (lane(world).failures >= 2) is counted


def test_refused_attempt_fails_its_equals_and_frees_the_lane(database: Database) -> None:
    """LAN-15: no such price; the other plan, asked for next, is sold."""
    world = World(database, lacks="price_kiloclaw_standard")
    first, second = world.ask(), world.ask()
    world.work()
    for checkout_id in (first, second):
        view = world.view(checkout_id)
        assert view.status is CheckoutStatus.FAILED
        assert view.error is not None
        assert view.error["code"] == "stripe_refused"
    assert world.served("commit").status is CheckoutStatus.OPEN


def test_another_ones_bad_attempt_does_not_fail_a_good_checkout(database: Database) -> None:
    """LAN-15: a worker dies before it sends an attempt for a bad price; the next request is for a good one."""
    world = World(database, lacks="price_kiloclaw_standard")
    world.sandbox.faults.add("drop_before", method="POST", path=SESSIONS)
    bad = world.ask()
    world.work_lane()
    good = world.ask("commit")
    assert settle(world, good).status is CheckoutStatus.OPEN
    assert world.view(bad).status is CheckoutStatus.SUPERSEDED


@pytest.mark.parametrize("status", [401, 403])
def test_key_that_stripe_does_not_accept_is_said_and_blocks_nobody_later(world: World, status: int) -> None:
    """LAN-14: the operator's mistake is told as such, and nothing stays behind once it is mended."""
    world.sandbox.faults.add("status", path="/v1", status=status, times=None)
    view = world.served()
    assert view.status is CheckoutStatus.FAILED
    assert view.error is not None
    assert view.error["code"] == "misconfigured"
    world.sandbox.faults.clear()
    assert world.served().status is CheckoutStatus.OPEN


def test_open_session_on_the_third_page_of_the_list_is_found(world: World) -> None:
    """LAN-11, fault 44: 250 sessions, the oldest of them open and an earlier system's."""
    world.served()
    customer_id = world.objects("customer")[0]["id"]
    oldest = str(world.sandbox.request("POST", "/v1/checkout/sessions", world.legacy(customer_id)).body["id"])
    for _ in range(249):
        other = world.legacy(customer_id) | {"metadata": {"type": "other"}}
        world.sandbox.request("POST", "/v1/checkout/sessions", other)
    world.served()
    status = world.sandbox.session(oldest)
    assert status is not None
    assert status["status"] == "expired"


def test_crash_at_any_step_is_resumed_by_running_again(world: World) -> None:
    """LAN-9, faults 9 to 17: the worker dies before or after its nth transaction or call; the next one finishes."""
    for steps in range(1, 100):
        user = f"user_{steps}"
        world.served(user=user)
        world.clock.advance(seconds=1000)  # the session is stale: the pass goes through every state
        checkout_id, fuse = world.ask("commit", user=user), Fuse(steps)
        [job] = world.queue.sent
        with suppress(Crash):
            database, stripe = FusedDatabase(world.database, fuse), FusedStripe(world.stripe, fuse)
            world.work_lane(job.row_id, database=database, stripe=stripe)
        view = settle(world, checkout_id, user=user, lane_id=job.row_id)
        assert view.status is CheckoutStatus.OPEN, steps
        theirs = [one["id"] for one in world.sessions("open") if one["client_reference_id"] == user]
        assert theirs == [view.session_id], steps
        assert len(world.objects("customer")) == steps
        world.queue.sent.clear()
        if not fuse.burnt:
            break
    assert 20 < steps < 99
