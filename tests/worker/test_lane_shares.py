"""Threads for lanes: who comes again within a minute shares half of them."""

from contextlib import ExitStack

import pytest

from worker.lane_shares import MINUTE, LaneShares


@pytest.fixture
def time() -> list[float]:
    return [1000.0]


@pytest.fixture
def lanes(time: list[float]) -> LaneShares:
    """Of a worker with four threads."""
    return LaneShares(4, clock=lambda: time[0])


def test_lanes_that_come_again_have_half_of_the_threads(lanes: LaneShares) -> None:
    """LAN-60; faults row 128"""
    for lane in range(3):
        with lanes.place(lane) as has_place:
            assert has_place
    with ExitStack() as stack:
        assert [stack.enter_context(lanes.place(lane)) for lane in range(3)] == [True, True, False]
        assert all(stack.enter_context(lanes.place(lane)) for lane in range(10, 20)), "they come for the first time"
    with lanes.place(2) as has_place:
        assert has_place, "the others have ended"


def test_pass_that_raises_gives_its_place_back(lanes: LaneShares) -> None:
    """LAN-60"""

    def fail() -> None:
        with lanes.place(1) as has_place:
            assert has_place
            raise KeyError

    for _ in range(5):
        with pytest.raises(KeyError):
            fail()


def test_lane_is_forgotten_after_a_minute(lanes: LaneShares, time: list[float]) -> None:
    """LAN-60"""
    with lanes.place(1), lanes.place(2), lanes.place(3):
        pass
    time[0] += MINUTE
    with lanes.place(1) as one, lanes.place(2) as two, lanes.place(3) as three:
        assert (one, two, three) == (True, True, True)


def test_single_thread_is_everybodys() -> None:
    """LAN-60"""
    lanes = LaneShares(1)
    for _ in range(3):
        with lanes.place(1) as has_place:
            assert has_place
