"""The pace of requests to Stripe from this process: a budget, buyers first, and slower while Stripe asks for that.

Two lines wait for the same budget. A buyer's call goes before any other, but every fifth turn is the others' while they
wait. A flood of checkouts must not keep paid customers from their access. When Stripe answers 429, the process halves
its rate, at most once a second, and pauses for a random moment. Then it comes back by a twentieth of its budget each
second. So processes that know nothing of each other settle below Stripe's limit together.
"""

import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import stripe

from billing.errors import StripeBusy

BUYERS_IN_A_ROW = 4
SLOWEST = 1 / 20  # of the budget: that often a process asks at least, however often it is refused
RECOVERY_SECONDS = 20.0  # from nothing to the whole budget
WAIT_SECONDS = 20.0  # who is not let through by then gives its work back, and holds neither thread nor row for longer
BLAME_SECONDS = 1.0  # requests that were on their way together are refused together: that is one refusal


class Ticket:
    """A place in line."""

    __slots__ = ("called",)

    def __init__(self) -> None:
        self.called = False


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

    @property
    def rate(self) -> float:
        """Requests a second, at the moment."""
        return self._rate

    def join(self, *, buyer: bool) -> Ticket:
        """Stand in line."""
        ticket = Ticket()
        (self._buyers if buyer else self._others).append(ticket)
        return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give up one's place."""
        for line in (self._buyers, self._others):
            if ticket in line:
                line.remove(ticket)

    def due_in(self, now: float) -> float:
        """Seconds until the next turn; a second's worth (and one request) may go out at once."""
        interval = 1 / self._rate
        return max(self._taken, now - max(1.0, interval)) + interval - now

    def call(self, now: float) -> bool:
        """Let the next one go, if it is time and somebody waits."""
        if not (self._buyers or self._others):
            return False
        if self._rate < self._budget:  # first: it may be time only because of this
            self._rate = min(self._budget, self._rate + self._budget * (now - self._changed_at) / RECOVERY_SECONDS)
            self._changed_at = now
        if self.due_in(now) > 0:
            return False
        self._taken = now + self.due_in(now)
        others = not self._buyers or (bool(self._others) and self._in_a_row >= BUYERS_IN_A_ROW)
        self._in_a_row = 0 if others or not self._others else self._in_a_row + 1  # before whom nobody waits, is no rush
        (self._others if others else self._buyers).popleft().called = True
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
            ticket = self._turns.join(buyer=buyer)
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
