"""Clocks that disagree: a worker two hours ahead or behind may be early or late, never wrong (faults.md, row 30)."""

from datetime import datetime, timedelta

import pytest

from billing.checkout.lane_store import lanes_to_wake
from billing.models import CheckoutStatus
from tests.support.builders import MovableClock
from tests.support.checkout_world import World
from tests.support.in_process import gateway

SESSIONS = "^/v1/checkout/sessions$"


class Skewed:
    """A machine's clock that is wrong by so much."""

    def __init__(self, right: MovableClock, hours: float) -> None:
        self._right, self._by = right, timedelta(hours=hours)

    def now(self) -> datetime:
        """The wrong time."""
        return self._right.now() + self._by


def work(world: World, hours: float) -> None:
    """One pass of a worker whose clock is wrong by so many hours, and that was started just now."""
    clock = Skewed(world.clock, hours)
    world.work_lane(clock=clock, stripe=gateway(world.sandbox, clock=clock))


@pytest.mark.parametrize("hours", [-24, -2, -0.5, 0.5, 2, 24])
def test_worker_with_a_wrong_clock_makes_one_session_and_comes_to_rest(world: World, hours: float) -> None:
    """LAN-21: by its clock the session that it made is older than the checkout it was made for."""
    checkout_id = world.ask()
    work(world, hours)
    assert world.view(checkout_id).status is CheckoutStatus.OPEN
    assert world.creates() == 1
    world.queue.sent.clear()
    later = world.ask()
    work(world, hours)
    assert world.view(later).status is CheckoutStatus.OPEN
    assert len(world.sessions("open")) == 1
    assert world.creates() <= 2


@pytest.mark.parametrize("hours", [-2, 2])
def test_saved_500_is_found_by_a_worker_with_a_wrong_clock(world: World, hours: float) -> None:
    """LAN-17: what is looked for was created two hours before (or after) the attempt, by the worker's clock."""
    world.sandbox.faults.add("save_500_with_effect", method="POST", path=SESSIONS)
    checkout_id = world.ask()
    for _ in range(10):
        work(world, hours)
        world.clock.advance(seconds=61)
    assert world.view(checkout_id).status is CheckoutStatus.OPEN
    assert world.creates() == 1


def test_lane_does_not_wait_for_a_time_that_only_a_wrong_clock_set(world: World) -> None:
    """LAN-16: no failure postpones a lane by more than a minute; what lies further ahead is another's wrong clock."""
    world.sandbox.faults.add("drop_before", method="GET", path="/v1", times=None)
    checkout_id = world.ask()
    work(world, 2)
    world.sandbox.faults.clear()
    world.clock.advance(seconds=61)
    world.work_lane()
    assert world.view(checkout_id).status is CheckoutStatus.OPEN


def test_sweep_wakes_a_lane_that_a_wrong_clock_postponed(world: World) -> None:
    """LAN-16."""
    world.sandbox.faults.add("drop_before", method="GET", path="/v1", times=None)
    world.ask()
    work(world, 2)
    world.clock.advance(seconds=61)
    with world.database.read() as connection:
        assert lanes_to_wake(connection, now=world.clock.now(), limit=9) == [1]


@pytest.mark.parametrize("path", [SESSIONS, "^/v1/customers$"])
def test_what_a_fast_clock_doubted_is_not_doubted_for_hours(world: World, path: str) -> None:
    """LAN-17, CHK-8: the wait before a key is given up is seconds, whoever wrote down when it began."""
    world.sandbox.faults.add("save_500_without_effect", method="POST", path=path)
    checkout_id = world.ask()
    work(world, 2)
    for _ in range(10):
        world.clock.advance(seconds=61)
        world.work_lane()
    assert world.view(checkout_id).status is CheckoutStatus.OPEN
