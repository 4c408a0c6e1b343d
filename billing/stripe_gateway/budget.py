"""The budget of requests to Stripe: whose turn it is, and when. Pure: a state, who waits, and what time it is.

At most so many requests go out in any second. Three quarters of them come evenly. The last quarter is a reserve, which
fills while nobody asks. Seven eighths of it are kept for buyers whose lane asked no more than a first checkout does. So
a few who ask as often as they may delay nobody who comes for the first time (WHK-130). The rest makes up for who asks
a moment late.

Buyers go before others, but every fifth turn is the others' while they wait. A flood of checkouts must not keep paid
customers from their access. Who waits leaves a mark, which ends by itself: so processes that share a state know of each
other's calls.

When Stripe answers 429, the rate is halved, at most once a second, and nothing goes out for a moment. Then it comes
back by a twentieth of the budget each second.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Protocol

EVENLY, RESERVE, KEPT = 3 / 4, 1 / 4, 7 / 32  # of the budget
BUYERS_IN_A_ROW = 4
SLOWEST = 1 / 20  # of the budget: that often is asked at least, however often Stripe refuses
RECOVERY_SECONDS = 20.0  # from nothing to the whole budget
BLAME_SECONDS = 1.0  # requests that were on their way together are refused together: that is one refusal
MARK_SECONDS = 0.1  # beyond the moment at which who waits will ask again: what a busy machine may take for it
LONGEST_PAUSE = 2.0  # a time that is further ahead was written by another clock


class Rank(IntEnum):
    """Whose call waits, the first first."""

    FIRST = 0  # a buyer's, whose lane asked no more than a first checkout does in this minute
    BUYER = 1
    OTHER = 2


@dataclass(frozen=True, slots=True)
class State:
    """What is known of the budget. Times are seconds of one clock; `tokens` are requests that may go at `at`."""

    tokens: float = float("inf")  # as many as there may be
    at: float = 0.0
    share: float = 1.0  # of the rate; less after a refusal
    refused_at: float = float("-inf")
    in_a_row: int = 0  # buyers' turns while others waited
    marks: tuple[float, ...] = (0.0, 0.0, 0.0)  # by rank: until when somebody is believed to wait


@dataclass(frozen=True, slots=True)
class Turn:
    """Whose turn it is; None: nobody's of those who asked. They ask again after `seconds`."""

    rank: Rank | None
    seconds: float


Change = Callable[[State, float], tuple[State, Turn]]


class Budget(Protocol):
    """Where a process gets its turns."""

    def take(self, waiting: Collection[Rank]) -> Turn:
        """The turn of one of those who wait in this process, if there is one."""

    def refused(self, *, pause: float) -> None:
        """Stripe said 429."""


def take(state: State, waiting: Collection[Rank], now: float, *, per_second: float) -> tuple[State, Turn]:
    """Let the next one go, if it is time and they are among those who wait here."""
    state = _filled(state, now, per_second)
    everywhere = {*waiting, *(rank for rank in Rank if state.marks[rank] > now)}
    others_turn = Rank.OTHER in everywhere and state.in_a_row >= BUYERS_IN_A_ROW
    rank = Rank.OTHER if others_turn else min(everywhere)
    # For first checkouts. Where they wait and it is the others' turn, these take from it as well, and wait no longer.
    kept = 0.0 if Rank.FIRST in everywhere else per_second * KEPT
    missing = 1 + kept - state.tokens
    interval = 1 / (per_second * EVENLY * state.share)
    if rank in waiting and missing <= 0:
        rush = rank is not Rank.OTHER and Rank.OTHER in everywhere  # before whom nobody waits, is no rush
        marks = tuple(0.0 if one is rank else state.marks[one] for one in Rank)
        in_a_row = state.in_a_row + 1 if rush else 0
        return replace(state, tokens=state.tokens - 1, in_a_row=in_a_row, marks=marks), Turn(rank, 0.0)
    seconds = max(state.at - now, 0.0) + (missing if rank in waiting else 1) * interval
    until = now + seconds + MARK_SECONDS
    marks = tuple(max(state.marks[one], until) if one in waiting else state.marks[one] for one in Rank)
    return replace(state, marks=marks), Turn(None, seconds)


def refuse(state: State, now: float, *, pause: float, per_second: float) -> State:
    """Half the rate, and nothing for a moment, but not once for each of those in flight."""
    state = _filled(state, now, per_second)
    if 0 <= now - state.refused_at < BLAME_SECONDS:
        return state
    return replace(state, tokens=0.0, at=now + pause, share=max(state.share / 2, SLOWEST), refused_at=now)


def _filled(state: State, now: float, per_second: float) -> State:
    """The state as it is by now."""
    most = 1 + per_second * RESERVE
    if state.at > now + LONGEST_PAUSE:
        state = replace(state, at=now, marks=(0.0,) * len(Rank))
    if state.at > now:
        return replace(state, tokens=min(most, state.tokens))
    seconds = now - state.at
    share = min(1.0, state.share + seconds / RECOVERY_SECONDS)
    tokens = min(most, state.tokens + seconds * per_second * EVENLY * share)
    return replace(state, tokens=tokens, at=now, share=share)


class OwnBudget:
    """The budget of this process alone."""

    def __init__(self, per_second: float, *, clock: Callable[[], float]) -> None:
        self.per_second, self._clock = per_second, clock
        self.state = State()

    def take(self, waiting: Collection[Rank]) -> Turn:
        self.state, turn = take(self.state, waiting, self._clock(), per_second=self.per_second)
        return turn

    def refused(self, *, pause: float) -> None:
        self.state = refuse(self.state, self._clock(), pause=pause, per_second=self.per_second)
