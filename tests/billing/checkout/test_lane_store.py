"""The compare-and-sets of a lane, one by one (LAN-2, LAN-3, LAN-18)."""

from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa
import structlog

from billing.checkout import checkout_store, lane_store
from billing.checkout.lane_store import Snapshot
from billing.checkout.view import read_newest
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, lanes
from tests.races.unlocked import NoLocks
from tests.support.checkout_world import World


def snapshot(world: World) -> Snapshot:
    """What a worker reads in step 2."""
    with world.database.write() as connection:
        return lane_store.read_snapshot(connection, 1, now=world.clock.now())


def move(world: World, seen: Snapshot, state: LaneState) -> bool:
    """What a worker tries in steps 4, 6, 9 and 11."""
    with world.database.write() as connection:
        return lane_store.move(connection, seen.lane, state)


def test_lane_that_changed_and_changed_back_is_not_taken_for_unchanged(world: World) -> None:
    """LAN-2: the version tells (A, B, A)."""
    world.ask()
    old = snapshot(world)
    world.work()
    world.clock.advance(hours=24)
    world.served("commit")  # through every state and back to open
    first = snapshot(world)
    assert move(world, first, LaneState.CLOSED)
    assert snapshot(world).lane.state == old.lane.state
    assert not move(world, old, LaneState.CREATING)


def test_lane_of_another_buyer_in_the_same_state_is_left_as_it_is(world: World) -> None:
    """LAN-2: two new lanes have the same version and no nonce."""
    world.ask(user="user_1")
    world.ask(user="user_2")
    assert move(world, snapshot(world), LaneState.CREATING)
    assert [row.state for row in world.rows(lanes)] == [LaneState.CREATING, LaneState.CLOSED]


def test_sweep_wakes_no_more_lanes_than_it_is_told(world: World) -> None:
    """The others have the next sweep."""
    for number in range(3):
        world.ask(user=f"user_{number}")
    with world.database.read() as connection:
        assert lane_store.lanes_to_wake(connection, now=world.clock.now(), limit=2) == [1, 2]


def test_checkouts_that_wait_are_counted_with_the_age_of_the_oldest(world: World) -> None:
    """An answered one does not wait, and no age is below nothing, whatever the clocks say."""

    def waiting(**past: float) -> tuple[int, float]:
        with world.database.read() as connection:
            found = checkout_store.waiting(connection, now=world.clock.now() - timedelta(**past))
        return found.count, found.oldest_seconds

    world.served()
    world.clock.advance(hours=1)
    assert waiting() == (0, 0)
    for user in ("user_1", "user_2"):
        world.ask(user=user)
        world.clock.advance(seconds=20)
    assert waiting() == (2, 40)
    assert waiting(hours=1) == (2, 0)


def test_newest_checkouts_are_listed_by_their_arrival(world: World) -> None:
    """A number is a lane's own."""
    ids = []
    for user in ("user_1", "user_1", "user_2"):
        ids.append(world.ask(user=user))
        world.clock.advance(seconds=1)
    with world.database.read() as connection:
        found = read_newest(connection, status=None, now=world.clock.now(), limit=2)
    assert [one["id"] for one in found] == ids[:0:-1]


def test_failures_are_cleared_of_one_lane_alone(world: World) -> None:
    """LAN-16"""
    for number in (1, 2):
        world.ask(user=f"user_{number}")
        with world.database.write() as connection:
            lane_store.postpone(connection, number, code="try_again", until=world.clock.now())
    with world.database.write() as connection:
        lane_store.clear_failures(connection, 1)
    cleared, other = world.rows(lanes)
    assert (cleared.failures, cleared.last_error, cleared.next_attempt_at) == (0, None, None)
    assert (other.failures, other.last_error) == (1, "try_again")


def test_closed_lane_owns_no_session(world: World) -> None:
    """LAN-5: else what its last attempt made would never be an orphan."""
    world.served()
    seen = snapshot(world)
    with world.database.write() as connection:
        assert lane_store.close(connection, seen.lane, AttemptOutcome.EXPIRED)
    closed = snapshot(world).lane
    assert (closed.state, closed.nonce, closed.session_id) == (LaneState.CLOSED, None, None)


def test_lane_restored_from_a_backup_is_not_taken_for_unchanged(world: World) -> None:
    """LAN-2: after a restore the version repeats; the nonce does not."""
    world.served()
    seen = snapshot(world)
    with world.database.write() as connection:
        connection.execute(sa.update(lanes).values(nonce="00000000-0000-0000-0000-000000000000"))
    assert not move(world, seen, LaneState.CLOSING)


def test_answer_voids_what_others_have_read(world: World) -> None:
    """LAN-18: a worker that read before a newer checkout was answered cannot close its session."""
    world.served()
    world.clock.advance(seconds=600)
    world.ask("commit")
    old = snapshot(world)
    world.ask()
    newest = snapshot(world)
    assert newest.newest is not None
    with world.database.write() as connection:
        assert checkout_store.answer(connection, newest.lane, newest.newest, url="https://x", now=world.clock.now())
    assert not move(world, old, LaneState.CLOSING)


def test_answer_leaves_newer_checkouts_to_a_pass_of_their_own(world: World) -> None:
    """LAN-18: equal or not, what arrived after the view was read is not answered with it."""
    world.served()
    older = world.ask()
    seen = snapshot(world)
    assert seen.newest is not None
    newer = world.ask()
    with world.database.write() as connection:
        assert checkout_store.answer(connection, seen.lane, seen.newest, url="x", now=world.clock.now()) == [older]
    assert world.view(newer).status is CheckoutStatus.PENDING


@pytest.mark.parametrize("asleep_in", ["list_sessions", "create_session", "expire_session", "get_session"])
def test_worker_that_slept_loses_its_compare_and_set_and_says_so(world: World, asleep_in: str) -> None:
    """LAN-2, fault 18: at each kind of call another worker does everything before this one wakes."""
    world.served()
    world.clock.advance(seconds=1000)
    checkout_id = world.ask("commit")
    real, slept = getattr(world.stripe, asleep_in), []

    def sleep(*arguments: Any, **options: Any) -> Any:
        answer = real(*arguments, **options) if asleep_in != "expire_session" else None
        if not slept:
            slept.append(True)
            world.work_lane(locks=NoLocks())
            world.ask("standard", metadata={"turn": "2"})
            world.work_lane(locks=NoLocks())
        return answer if asleep_in != "expire_session" else real(*arguments, **options)

    setattr(world.stripe, asleep_in, sleep)
    with structlog.testing.capture_logs() as logs:
        world.work_lane(locks=NoLocks())
    assert "lane.moved_on" in [one["event"] for one in logs]
    assert len(world.sessions("open")) == 1
    assert world.view(checkout_id).url is None


def test_answer_after_the_lane_moved_on_answers_nobody(world: World) -> None:
    """CHK-6, LAN-2."""
    world.served()
    checkout_id = world.ask()
    seen = snapshot(world)
    assert seen.newest is not None
    assert move(world, seen, LaneState.CLOSING)
    with world.database.write() as connection:
        assert checkout_store.answer(connection, seen.lane, seen.newest, url="x", now=world.clock.now()) == []
    assert world.view(checkout_id).status is CheckoutStatus.PENDING


def test_checkout_that_arrives_between_the_two_reads_is_seen(world: World) -> None:
    """LAN-3: the lane's row first: what is read with an old version may be new, never the other way round.

    On SQLite nothing can arrive between them; the order of the statements is looked at instead.
    """
    world.served()
    statements: list[str] = []
    arrived: list[str] = []

    def after(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)
        if not arrived and "FROM lanes" in statement and not world.database.is_sqlite:
            arrived.append("")
            arrived[0] = world.ask("commit")

    sa.event.listen(world.database.engine, "after_cursor_execute", after)
    seen = snapshot(world)
    sa.event.remove(world.database.engine, "after_cursor_execute", after)
    reads = [one for one in statements if one.startswith("SELECT") and ("FROM lanes" in one or "FROM checkouts" in one)]
    assert "FROM lanes" in reads[0]
    assert [one.id for one in seen.waiting] == arrived
