"""The ports at which workers stop: ledger, Stripe, and where a scene wants it the clock, the queue and the lock, too.

Stripe here reads in any order, loses answers, and executes requests late. What each change of a subscription really
changed is told at once, so that an effect that comes out of turn is seen where it happens.
"""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import Job
from billing.coordination.locks import Lease
from billing.database import Database
from billing.errors import StripeUnclear
from tests.races.schedule import AGAIN, Actor, Schedule
from tests.support.builders import MovableClock
from tests.support.checkout_world import PatientQueue

# What an operation sends: a request in flight for longer than Stripe keeps its key is nobody's to stop.
CHANGES = ("update_subscription", "create_schedule", "update_schedule", "release_schedule")
WRITES = ("create", "expire", "update", "release", "cancel")


class SteppedDatabase(Database):
    """A ledger that stops before every transaction. Commits need not survive a power cut here."""

    schedule: Schedule | None = None

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """A transaction, after a point."""
        with self._after("a write transaction"), super().write() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A transaction, after a point."""
        with self._after("a read transaction"), super().read() as connection:
            yield connection

    @contextmanager
    def _after(self, label: str) -> Iterator[None]:
        if self.schedule is None:
            yield
            return
        self.schedule.point(label)
        with self.schedule.whole():
            yield


class SteppedClock(MovableClock):
    """A clock that is a port, too: whoever falls asleep before looking wakes at another time."""

    schedule: Schedule | None = None

    def now(self) -> datetime:
        """The time, after a point."""
        if self.schedule:
            self.schedule.point("the clock")
        return super().now()


class SteppedQueue(PatientQueue):
    """A queue that stops before a message is sent."""

    schedule: Schedule | None = None

    def send(self, job: Job, *, delay_seconds: float = 0.0) -> bool:
        """Send it, after a point."""
        if self.schedule:
            self.schedule.point(f"queue: {type(job).__name__}")
        return super().send(job, delay_seconds=delay_seconds)


class SteppedLocks:
    """A lock that excludes nobody, lapses at any look and says no at times."""

    def __init__(self, schedule: Schedule, *, lapses: float) -> None:
        self._schedule = schedule
        self.lapses = lapses

    @contextmanager
    def hold(self, name: str) -> Iterator[Lease | None]:
        """Mostly go ahead."""
        if not self.lapses:
            yield Lease()
            return
        self._schedule.point(f"lock: {name}")
        if self._schedule.random.random() < self.lapses:
            self._schedule.met["a lock is taken"] += 1
            yield None
            return
        yield _Lapsing(self._schedule, self.lapses)

    def held(self) -> dict[str, float] | None:
        return {}


class _Lapsing(Lease):
    def __init__(self, schedule: Schedule, chance: float) -> None:
        super().__init__()
        self._schedule, self._chance = schedule, chance

    @property
    def lapsed(self) -> bool:
        """Whether it is lost by now: that may be found out at any look."""
        if not self._lost.is_set() and self._schedule.random.random() < self._chance:
            self._schedule.met["a lease lapses"] += 1
            self.lose()
        return self._lost.is_set()


class SteppedStripe:
    """A gateway that stops before every call, reads in any order, and loses or delays answers now and then."""

    def __init__(self, gateway: Any, schedule: Schedule) -> None:
        self._gateway = gateway
        self._schedule = schedule
        self._shape: Callable[[], Any] = lambda: None
        self._told: Callable[[str, str], None] = lambda name, key: None
        self.lossy = 0.0  # how often a write's answer is lost
        self.expired: list[str] = []  # the sessions that we have expired
        self.done: Counter[str] = Counter()

    def watch(self, shape: Callable[[], Any], told: Callable[[str, str], None]) -> None:
        """Tell of each write after which `shape` is another one: its name and its idempotency key."""
        self._shape, self._told = shape, told

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._gateway, name)
        if name == "now":
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            self._schedule.point(f"Stripe: {name} {_short(arguments)}")
            if name.startswith(WRITES) and self._schedule.random.random() < self.lossy:
                if self._schedule.random.random() < 0.5:
                    self._schedule.met["executed, the answer is lost"] += 1
                    _quietly(done, *arguments, **options)
                    raise StripeUnclear("executed, answer lost")
                self._later(name, lambda: _quietly(done, *arguments, **options))
                raise StripeUnclear("on its way, nobody knows")
            return done(*arguments, **options)

        def done(*arguments: Any, **options: Any) -> Any:
            watched = name in CHANGES
            with self._schedule.whole():
                before = self._shape() if watched else None
                try:
                    answer = real(*arguments, **options)
                finally:
                    if watched and self._shape() != before:
                        self._told(name, str(options.get("idempotency_key")))
            self.done[name] += 1
            if name == "expire_session":
                self.expired.append(arguments[0])
            return answer

        return call

    def _later(self, name: str, send: Callable[[], None]) -> None:
        """A request that is still on its way."""
        successors = self.done[name]
        rounds = self._schedule.random.choice((0, 0, 6))

        def arrive() -> None:
            for _ in range(rounds):  # others may well send it again meanwhile
                self._schedule.point(f"{AGAIN} (a late {name})")
            after = self.done[name] > successors
            self._schedule.met["executed late, after a successor" if after else "executed late"] += 1
            send()

        late = Actor(f"late {name}", arrive)
        late.at, late.mortal = f"Stripe: {name} arrives", False
        self._schedule.later(late)

    def low_priority(self) -> "SteppedStripe":
        """The same: nobody's budget runs short here."""
        return self

    def in_parallel(self, *calls: Callable[[], Any]) -> list[Any]:
        """Side by side means: in any order."""
        order = list(range(len(calls)))
        if self._schedule.delays is None:
            self._schedule.random.shuffle(order)
        results = {index: calls[index]() for index in order}
        return [results[index] for index in range(len(calls))]


def _quietly(call: Callable[..., Any], *arguments: Any, **options: Any) -> None:
    with contextlib.suppress(Exception):  # nobody waits for this answer
        call(*arguments, **options)


def _short(arguments: tuple[Any, ...]) -> str:
    return " ".join(str(one)[:24] for one in arguments if isinstance(one, str))
