"""One budget for all processes of an installation: its state is a key in Redis, changed by compare-and-set.

While Redis is away, each process has its share of the budget, by the number of workers that there are. One that shared
it before begins with a second of nothing, since what the others asked in the last one is not known.
"""

import json
import time
from collections.abc import Callable, Collection
from typing import TypeVar

import redis
import structlog
from redis.exceptions import RedisError

from billing.errors import LedgerUnavailable
from billing.stripe_gateway.budget import OwnBudget, Rank, State, Turn, refuse, take

log = structlog.get_logger(__name__)
T = TypeVar("T")

KEPT_MILLISECONDS = 60_000  # the budget is whole again long before that
TRIES = 50  # beside twenty busy workers two or three are usual
AGAIN_SECONDS = 5.0  # until a Redis that did not answer is asked again
UNKNOWN_SECONDS = 1.0
UNKNOWN = b"?"  # what no state is: the first swap is refused, and tells what there is and Redis' time
_SWAP = """
local time, found = redis.call('TIME'), redis.call('GET', KEYS[1]) or ''
if found ~= ARGV[1] then return {time[1], time[2], found} end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return {time[1], time[2]}
"""


class SharedBudget:
    """Turns for one process of several. Not for several threads at once: `Pace` asks one at a time."""

    def __init__(
        self,
        per_second: float,
        *,
        client: "redis.Redis",
        key: str,
        count_workers: Callable[[], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`count_workers`: how many workers there are, all of which ask Stripe; may raise LedgerUnavailable."""
        self._per_second, self._client, self._key = per_second, client, key
        self._count_workers, self._clock = count_workers, clock
        self._swap = client.register_script(_SWAP)
        self._known = UNKNOWN  # the state as this process saw it last
        self._ahead = 0.0  # seconds that Redis' time was ahead of ours then
        self._own = OwnBudget(per_second, clock=clock)  # while Redis is away
        self._away_until = float("-inf")
        self._is_shared = False

    def take(self, waiting: Collection[Rank]) -> Turn:
        """The turn of one of those who wait in this process, if there is one."""

        def change(state: State, now: float) -> tuple[State, Turn]:
            return take(state, waiting, now, per_second=self._per_second)

        turn = self._changed(change)
        return self._own.take(waiting) if turn is None else turn

    def refused(self, *, pause: float) -> None:
        """Stripe said 429: for all processes."""

        def change(state: State, now: float) -> tuple[State, bool]:
            return refuse(state, now, pause=pause, per_second=self._per_second), True

        if self._changed(change) is None:
            self._own.refused(pause=pause)

    def _changed(self, change: Callable[[State, float], tuple[State, T]]) -> T | None:
        """What `change` found, once the state is written; None while Redis is away."""
        if self._clock() < self._away_until:
            return None
        try:
            found = self._change(change)
        except RedisError as error:
            self._leave(error)
            return None
        self._is_shared = True
        return found

    def _change(self, change: Callable[[State, float], tuple[State, T]]) -> T:
        """One round trip where nobody has changed the state since this process saw it; else one more for each."""
        for _ in range(TRIES):
            state, found = change(_read(self._known), self._clock() + self._ahead)
            written = json.dumps({name: getattr(state, name) for name in State.__slots__}).encode()
            asked = self._swap(keys=[self._key], args=[self._known, written, KEPT_MILLISECONDS])
            seconds, microseconds, *others = asked
            # Compared when the answer is here: late by its way back, and never early.
            self._ahead = int(seconds) + int(microseconds) / 1e6 - self._clock()
            self._known = others[0] if others else written
            if not others:
                return found
        raise RedisError("Other processes change the budget all the time.")

    def _leave(self, error: RedisError) -> None:
        """Go on alone, with a share of the budget."""
        now = self._clock()
        self._away_until = now + AGAIN_SECONDS
        try:
            workers = max(1, self._count_workers())
            self._own.per_second = self._per_second / workers
        except LedgerUnavailable:
            workers = 0  # not known: the share stays as it was
        if self._is_shared:
            self._own.state = State(tokens=0.0, at=now + UNKNOWN_SECONDS)
            log.warning("stripe_budget.alone", error=type(error).__name__, workers=workers)
        self._is_shared = False


def _read(raw: bytes) -> State:
    """The state; a fresh one where there is none, or another version wrote it in another way."""
    try:
        values = json.loads(raw or b"{}")
        return State(**{**values, **({"marks": tuple(values["marks"])} if "marks" in values else {})})
    except (TypeError, ValueError):
        return State()
