"""The pace of requests to Stripe from this process: a budget, buyers first, and slower while Stripe asks for that.

Two lines wait for the same budget. A buyer's call goes before any other, but every fifth turn is the others' while they
wait. A flood of checkouts must not keep paid customers from their access. Among buyers, whose lane asked least in this
minute goes first. Half of a second's worth is kept for lanes that asked no more than a first checkout does: so a few
buyers who ask as often as they may delay nobody who comes for the first time (WHK-130).

When Stripe answers 429, the process halves its rate, at most once a second, and pauses for a random moment. Then it
comes back by a twentieth of its budget each second. So processes that know nothing of each other settle below Stripe's
limit together.
"""

import random
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import stripe

from billing.errors import StripeBusy

BUYERS_IN_A_ROW = 4
SLOWEST = 1 / 20  # of the budget: that often a process asks at least, however often it is refused
RECOVERY_SECONDS = 20.0  # from nothing to the whole budget
WAIT_SECONDS = 20.0  # who is not let through by then gives its work back, and holds neither thread nor row for longer
BLAME_SECONDS = 1.0  # requests that were on their way together are refused together: that is one refusal
MINUTE = 60.0
FIRST_CALLS = 10  # a first checkout asks seven times, one with a coupon or a trial nine or ten times
KEPT_SECONDS = 0.5  # of the budget, for lanes that asked no more than that
MOST_LANES = 10_000  # remembered, before those that have not asked for a minute are forgotten
_lane: ContextVar[int | None] = ContextVar("lane", default=None)


@contextmanager
def for_lane(lane_id: int) -> Iterator[None]:
    """Calls in this block, and in what it runs in parallel, are this lane's."""
    token = _lane.set(lane_id)
    try:
        yield
    finally:
        _lane.reset(token)


class Ticket:
    """A place in line."""

    __slots__ = ("called", "lane")

    def __init__(self, lane: int | None) -> None:
        self.called = False
        self.lane = lane


class Used:
    """How often each lane asked within the last minute. Nobody's calls count as none."""

    def __init__(self) -> None:
        self._asked: defaultdict[int, deque[float]] = defaultdict(deque)

    def note(self, lane: int | None, now: float) -> None:
        """Count a call."""
        if lane is None:
            return
        self._asked[lane].append(now)
        if len(self._asked) > MOST_LANES:
            for other in [other for other in self._asked if not self.count(other, now)]:
                del self._asked[other]

    def count(self, lane: int | None, now: float) -> int:
        """The calls of a lane."""
        asked = self._asked.get(lane) if lane is not None else None
        while asked and asked[0] <= now - MINUTE:
            asked.popleft()
        return len(asked) if asked else 0


class Turns:
    """Whose turn it is, and when. Pure: the caller says what time it is, in seconds."""

    def __init__(self, per_second: float) -> None:
        self._budget = self._rate = per_second
        self._taken = float("-inf")  # the moment up to which requests have been let through
        self._changed_at = 0.0
        self._refused_at = float("-inf")
        self._buyers: deque[Ticket] = deque()
        self._others: deque[Ticket] = deque()
        self._in_a_row = 0
        self._used = Used()

    @property
    def rate(self) -> float:
        """Requests a second, at the moment."""
        return self._rate

    def join(self, *, buyer: bool, lane: int | None = None) -> Ticket:
        """Stand in line, for a lane if it is a buyer's."""
        ticket = Ticket(lane)
        (self._buyers if buyer else self._others).append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give up one's place."""
        for line in (self._buyers, self._others):
            if ticket in line:
                line.remove(ticket)

    def due_in(self, now: float) -> float:
        """Seconds until the next turn; a second's worth (and one request) may go out at once.

        While all who wait have had what a first checkout takes, half of that stays for others.
        """
        return self._free_in(now) + (0.0 if self._others or self._has_new(now) else self._kept)

    @property
    def _kept(self) -> float:
        return KEPT_SECONDS if self._rate * KEPT_SECONDS >= 1 else 0.0

    def _free_in(self, now: float) -> float:
        interval = 1 / self._rate
        return max(self._taken, now - max(1.0, interval)) + interval - now

    def _has_new(self, now: float) -> bool:
        return not self._buyers or any(self._used.count(one.lane, now) < FIRST_CALLS for one in self._buyers)

    def call(self, now: float) -> bool:
        """Let the next one go, if it is time and somebody waits."""
        if not (self._buyers or self._others):
            return False
        if self._rate < self._budget:  # first: it may be time only because of this
            self._rate = min(self._budget, self._rate + self._budget * (now - self._changed_at) / RECOVERY_SECONDS)
            self._changed_at = now
        if self.due_in(now) > 0:
            return False
        free_in = self._free_in(now)
        self._taken = now + free_in
        kept = bool(self._buyers) and not self._has_new(now) and free_in + self._kept > 0
        others = not self._buyers or (bool(self._others) and (kept or self._in_a_row >= BUYERS_IN_A_ROW))
        self._in_a_row = 0 if others or not self._others else self._in_a_row + 1  # before whom nobody waits, is no rush
        # The first of those whose lane asked least: `min` keeps to the order in which they came.
        line = self._others if others else self._buyers
        ticket = line[0] if others else min(line, key=lambda one: self._used.count(one.lane, now))
        line.remove(ticket)
        self._used.note(ticket.lane, now)
        ticket.called = True
        return True

    def refused(self, now: float, *, pause: float) -> None:
        """Stripe said 429: half the rate, and nothing for a moment, but not once for each of those in flight."""
        if now - self._refused_at < BLAME_SECONDS:
            return
        self._refused_at = self._changed_at = now
        self._rate = max(self._rate / 2, self._budget * SLOWEST)
        self._taken = max(self._taken, now + pause)


class Pace:
    """Turns for the threads of a process."""

    def __init__(self, per_second: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._turns = Turns(per_second)
        self._clock = clock
        self._changed = threading.Condition()

    def wait(self, *, buyer: bool = True) -> None:
        """Wait for one's turn. Raises StripeBusy where none comes within WAIT_SECONDS."""
        with self._changed:
            ticket = self._turns.join(buyer=buyer, lane=_lane.get() if buyer else None)
            until = self._clock() + WAIT_SECONDS
            while not ticket.called:
                now = self._clock()
                if self._turns.call(now):
                    self._changed.notify_all()
                elif now >= until:
                    self._turns.leave(ticket)
                    raise StripeBusy("This process has spent its budget of requests to Stripe for now.")
                else:
                    self._changed.wait(min(max(self._turns.due_in(now), 0.001), until - now))

    def refused(self) -> None:
        """Note a 429. Half to all of a second by chance, so that processes do not come back as one."""
        with self._changed:
            self._turns.refused(self._clock(), pause=random.uniform(0.5, 1.0))  # noqa: S311  # jitter


class PacedClient(stripe.HTTPClient):
    """A transport at the pace of the process: every attempt waits for its turn, the SDK's retries too."""

    name = "paced"

    def __init__(self, inner: stripe.HTTPClient, pace: Pace, *, buyer: bool) -> None:
        super().__init__()
        self.inner, self.pace = inner, pace
        self._buyer = buyer

    def request(  # type: ignore[override]  # bytes where its base says str, as in the SDK's own clients
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request in its turn. A 429 slows the whole process, unless it is about one busy object."""
        self.pace.wait(buyer=self._buyer)
        answer: tuple[Any, int, Mapping[str, str]] = self.inner.request(method, url, headers, post_data)
        body, status, answered = answer
        if status == 429 and b'"lock_timeout"' not in body:
            self.pace.refused()
        return body, status, answered

    def close(self) -> None:
        """Close the connections."""
        self.inner.close()  # type: ignore[no-untyped-call]
