"""The pace of requests to Stripe from this process: two lines that wait for turns of the budget.

The budget says whose turn it is: a buyer's, or another's (`budget`). Among this process' buyers, whose lane asked least
in this minute goes first. Who waits too long gives its work back.
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
from billing.stripe_gateway.budget import Budget, OwnBudget, Rank

WAIT_SECONDS = 20.0  # who is not let through by then gives its work back, and holds neither thread nor row for longer
MINUTE = 60.0
FIRST_CALLS = 10  # a first checkout asks seven times, one with a coupon or a trial nine or ten times
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
    __slots__ = ("called", "lane")

    def __init__(self, lane: int | None) -> None:
        self.called = False
        self.lane = lane


class Used:
    """How often each lane asked within the last minute. Nobody's calls count as none."""

    def __init__(self) -> None:
        self._asked: defaultdict[int, deque[float]] = defaultdict(deque)

    def note(self, lane: int | None, now: float) -> None:
        if lane is None:
            return
        self._asked[lane].append(now)
        if len(self._asked) > MOST_LANES:
            for other in [other for other in self._asked if not self.count(other, now)]:
                del self._asked[other]

    def count(self, lane: int | None, now: float) -> int:
        asked = self._asked.get(lane) if lane is not None else None
        while asked and asked[0] <= now - MINUTE:
            asked.popleft()
        return len(asked) if asked else 0


class Lines:
    """Who waits in this process, and who of them goes next. The caller says what time it is, in seconds."""

    def __init__(self) -> None:
        self._buyers: deque[Ticket] = deque()
        self._others: deque[Ticket] = deque()
        self._used = Used()

    def join(self, *, buyer: bool, lane: int | None = None) -> Ticket:
        """Stand in line, for a lane if it is a buyer's."""
        ticket = Ticket(lane)
        (self._buyers if buyer else self._others).append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        for line in (self._buyers, self._others):
            if ticket in line:
                line.remove(ticket)

    def waiting(self, now: float) -> list[Rank]:
        """The ranks of those who could go next: the best of the buyers, and any other."""
        found = []
        if self._buyers:
            new = any(self._used.count(one.lane, now) < FIRST_CALLS for one in self._buyers)
            found.append(Rank.FIRST if new else Rank.BUYER)
        return [*found, Rank.OTHER] if self._others else found

    def call(self, rank: Rank, now: float) -> None:
        """Let the next one of this rank go."""
        # The first of those whose lane asked least: `min` keeps to the order in which they came.
        line = self._others if rank is Rank.OTHER else self._buyers
        ticket = line[0] if rank is Rank.OTHER else min(line, key=lambda one: self._used.count(one.lane, now))
        line.remove(ticket)
        self._used.note(ticket.lane, now)
        ticket.called = True


class Pace:
    """Turns for the threads of a process."""

    def __init__(self, budget: Budget | float, *, clock: Callable[[], float] = time.monotonic) -> None:
        """A number is a budget of this process alone."""
        self._budget = OwnBudget(budget, clock=clock) if isinstance(budget, int | float) else budget
        self._lines = Lines()
        self._clock = clock
        self._ask_at = clock()
        self._changed = threading.Condition()

    def wait(self, *, buyer: bool = True) -> None:
        """Wait for one's turn. Raises StripeBusy where none comes within WAIT_SECONDS."""
        with self._changed:
            now = self._ask_at = self._clock()  # whoever comes may go before who waits
            ticket = self._lines.join(buyer=buyer, lane=_lane.get() if buyer else None)
            until = now + WAIT_SECONDS
            while not ticket.called:
                now = self._clock()
                if now >= self._ask_at:
                    self._call(now)
                elif now >= until:
                    self._lines.leave(ticket)
                    raise StripeBusy("The budget of requests to Stripe is spent for now.")
                else:
                    self._changed.wait(min(max(self._ask_at - now, 0.001), until - now))

    def _call(self, now: float) -> None:
        turn = self._budget.take(self._lines.waiting(now))
        if turn.rank is None:
            self._ask_at = now + turn.seconds
        else:
            self._lines.call(turn.rank, now)
            self._changed.notify_all()

    def refused(self) -> None:
        """Note a 429. Half to all of a second by chance, so that processes do not come back as one."""
        with self._changed:
            self._budget.refused(pause=random.uniform(0.5, 1.0))  # noqa: S311  # jitter


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
        self.inner.close()  # type: ignore[no-untyped-call]
