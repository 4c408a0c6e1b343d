"""The rules of the budget, with a time of the test's own: one process alone, then several that share a state."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest

from billing.stripe_gateway.budget import (
    BLAME_SECONDS,
    MARK_SECONDS,
    SLOWEST,
    OwnBudget,
    Rank,
    State,
    refuse,
    take,
)

FIRST, BUYER, OTHER = Rank


class Process:
    """One that asks when it was told to, for whoever waits there; the state is handed round."""

    def __init__(self, **waiting: int) -> None:
        self.waiting = Counter({Rank[name]: count for name, count in waiting.items()})
        self.ask_at = 0.0

    def add(self, rank: Rank, count: int = 1) -> None:
        self.waiting[rank] += count
        self.ask_at = 0.0


def run(
    processes: list[Process], state: State, *, per_second: float, start: float, seconds: float
) -> tuple[State, list[tuple[float, Rank]]]:
    """Let them ask from moment to moment; the moments at which somebody went, and who."""
    gone, now = [], start
    while now < start + seconds:
        for process in processes:
            while now >= process.ask_at and +process.waiting:
                state, turn = take(state, [*+process.waiting], now, per_second=per_second)
                if turn.rank is None:
                    process.ask_at = now + turn.seconds
                    break
                process.waiting[turn.rank] -= 1
                gone.append((now, turn.rank))
        now += 0.001
    return state, gone


def busiest_second(gone: list[tuple[float, Rank]]) -> int:
    times = [moment for moment, _ in gone]
    return max((sum(begin <= one < begin + 1 for one in times) for begin in times), default=0)


@pytest.mark.parametrize("per_second", [0.5, 1, 3, 20, 80])
@pytest.mark.parametrize("processes", [1, 4])
@pytest.mark.parametrize("rank", Rank)
def test_no_second_has_more_calls_than_the_budget(per_second: float, processes: int, rank: Rank) -> None:
    """WHK-60: after a quiet time, and in all processes together; three quarters of it come evenly."""
    many = [Process(**{rank.name: 10_000}) for _ in range(processes)]
    _, gone = run(many, State(), per_second=per_second, start=1000, seconds=12)
    assert busiest_second(gone) <= max(1, per_second)
    assert len(gone) >= int(0.75 * per_second * 11)


def test_buyers_go_first_and_every_fifth_turn_is_the_others() -> None:
    """WHK-61: also where buyers and others wait in different processes."""
    for processes in ([Process(FIRST=8, OTHER=10)], [Process(OTHER=10), Process(FIRST=8)]):
        state, _ = run([Process(FIRST=10)], State(), per_second=4, start=1000, seconds=1)
        _, gone = run(processes, state, per_second=4, start=1001, seconds=7)
        assert "".join(rank.name[0] for _, rank in gone).startswith("FFFFOFFFFO")


def test_buyer_does_not_wait_behind_the_others_of_nineteen_workers() -> None:
    """WHK-61, WHK-130: a first checkout asks seven times in three rounds."""
    others = [Process(OTHER=10_000) for _ in range(19)]
    state, _ = run(others, State(), per_second=20, start=1000, seconds=10)
    buyer = Process()
    waited, now = 0.0, 1010.0
    for round_ in (3, 1, 3):
        buyer.add(FIRST, round_)
        state, gone = run([*others, buyer], state, per_second=20, start=now, seconds=0.5)
        went = [moment for moment, rank in gone if rank is FIRST]
        assert len(went) == round_
        waited += went[-1] - now
        now += 0.5
    assert waited < 0.16, "half of what the three rounds take at Stripe"


def test_part_of_the_reserve_is_kept_for_who_comes_for_the_first_time() -> None:
    """WHK-130; faults row 128: they do not wait for what those who asked often have left, and nothing is wasted."""
    often = Process(BUYER=10_000)
    state, gone = run([often], State(), per_second=40, start=1000, seconds=10)
    assert len(gone) >= 300
    first = Process(FIRST=7)
    _, gone = run([often, first], state, per_second=40, start=1010, seconds=0.002)
    assert [rank for _, rank in gone].count(FIRST) == 7


def test_small_budget_keeps_nobody_back() -> None:
    """WHK-130: else who asked often would wait for ever."""
    _, gone = run([Process(BUYER=30)], State(), per_second=1, start=1000, seconds=45)
    assert len(gone) == 30


def test_others_have_their_turn_while_first_checkouts_take_all_there_is() -> None:
    """WHK-61: every fifth, while these wait; and nobody waits longer for it than for one turn."""
    _, gone = run([Process(FIRST=10_000), Process(OTHER=10_000)], State(), per_second=20, start=1000, seconds=10)
    assert max(later - earlier for (earlier, _), (later, _) in pairwise(gone)) <= 1.2 / 15
    others = sum(rank is OTHER for _, rank in gone)
    assert others >= len(gone) / 5 - 5


def test_refusal_halves_the_rate_once_and_it_comes_back() -> None:
    """WHK-62: twenty requests that were in flight together are refused together."""
    state = State()
    for number in range(20):
        state = refuse(state, 1000 + number / 1000, pause=0.75, per_second=20)
    assert state.share == 0.5
    state = refuse(state, 1000 + BLAME_SECONDS, pause=0.75, per_second=20)
    assert 0.25 <= state.share < 0.3
    start = 1000 + BLAME_SECONDS
    state, gone = run([Process(FIRST=1000)], state, per_second=20, start=start, seconds=30)
    assert gone[0][0] >= start + 0.75, "nothing goes out in the pause"
    assert sum(moment < start + 2 for moment, _ in gone) < 12, "it comes back by and by"
    assert state.share == 1
    for number in range(100):
        state = refuse(state, 2000 + number * BLAME_SECONDS, pause=BLAME_SECONDS, per_second=20)
    assert state.share == SLOWEST, "and never stops asking"


def test_process_that_died_while_it_waited_keeps_nobody_back() -> None:
    """WHK-61: its mark ends by itself."""
    state, _ = run([Process(FIRST=100)], State(), per_second=20, start=1000, seconds=1)
    _, gone = run([Process(OTHER=1)], state, per_second=20, start=1001, seconds=2)
    _, alone = run([Process(OTHER=1)], replace(state, marks=State().marks), per_second=20, start=1001, seconds=2)
    assert gone[0][0] <= alone[0][0] + 2 * MARK_SECONDS


def test_time_that_another_clock_wrote_holds_nobody_back() -> None:
    """WHK-60: a Redis that took over is hours behind the one before it."""
    state, _ = run([Process(FIRST=100)], State(), per_second=20, start=9000, seconds=1)
    _, gone = run([Process(OTHER=5)], state, per_second=20, start=1000, seconds=2)
    assert len(gone) == 5


def test_budget_of_one_process_has_its_own_time() -> None:
    """WHK-60"""
    now = 0.0
    budget = OwnBudget(16, clock=lambda: now)
    assert [budget.take([FIRST]).rank for _ in range(5)] == [FIRST] * 5
    assert budget.take([FIRST]).seconds == pytest.approx(1 / 12)
    budget.refused(pause=0.5)
    assert budget.take([FIRST]).seconds >= 0.5
