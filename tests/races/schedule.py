"""A scheduler for interleavings: several actors run the real code, one at a time, and stop before every port call.

Each actor is a thread that waits at a point until it is chosen; between two points nobody else runs. Who is chosen
comes from a seed or from a list of preemptions, so a failing run can be run again; the trace reads as a story.

By seed: half of the seeds choose anew at each step. The others give each actor a rank and let the first in rank run,
except that at a few random steps whoever runs falls to the last rank: a bug that needs one worker to sleep through
everything that others do is found in tens of runs that way, not in millions (probabilistic concurrency testing).

By delays: the actors stand in a row, and the first runs until it ends or only waits; then, or at a step where it is
delayed, it goes to the end of the row. All runs with one or two delays are few enough to be run one and all
(depth-first, delay-bounded; `Explorer.delayed`), and most races need no more. In the same row, whoever is to take
step 0, 1, 2 ... dies instead (`Explorer.crashed`): every state that the straight run passes is one to recover from.
"""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

AGAIN = "looks again"  # a point at which an actor only waits for others


class Crash(BaseException):
    """The process of this actor is gone: nothing catches it."""


class Actor:
    """Something that happens in steps."""

    def __init__(self, name: str, run: Callable[[], None]) -> None:
        self.name = name
        self.at: str | None = "begins"  # the point it waits at; None once it has ended
        self.crashed = False
        self.mortal = True  # a process; a request in the network is none
        self.rank = 0.0  # the lowest goes first
        self.error: BaseException | None = None
        self.go = threading.Semaphore(0)
        self._run = run

    def body(self, schedule: "Schedule") -> None:
        """What the thread does."""
        self.go.acquire()
        try:
            if not self.crashed:
                self._run()
        except Crash:
            pass
        except BaseException as error:  # noqa: BLE001 (shown by the schedule that it belongs to)
            self.error = error
        self.at = None
        schedule.back.release()


class Schedule:
    """One interleaving: by a seed, or by delays (step -> how many actors are sent to the end of the row there)."""

    def __init__(self, seed: int, delays: Mapping[int, int] | None = None, *, crash_at: int | None = None) -> None:
        self.random = random.Random(seed)
        self.seed = seed
        self.crash_at = crash_at  # whoever is to take this step dies instead
        self.crashes = 0  # how many may still happen
        self.trace: list[str] = []
        self.width: list[int] = []  # how many could have gone on, at each step
        self.met: Counter[str] = Counter()  # how often each kind of trouble came
        self.after_step: list[Callable[[], None]] = []
        self.back = threading.Semaphore(0)
        self.delays = delays
        self._row: list[Actor] = []
        self._ranked = self.random.random() < 0.5
        self._falls = {self.random.randrange(100) for _ in range(self.random.randint(1, 5))}
        self._actors: dict[int, Actor] = {}
        self._later: list[Actor] = []
        self._here = threading.local()

    def run(self, *actors: Actor) -> None:
        """Run all actors to their end."""
        waiting = list(actors)
        for actor in waiting:
            self._start(actor)
        while waiting:
            actor = self._choose(waiting)
            by_chance = self.crashes and actor.mortal and actor.at != "begins" and self.random.random() < 0.03
            if by_chance or self.crash_at == len(self.trace):
                self.crashes -= bool(by_chance)
                actor.crashed = True
                self.met["a process dies"] += 1
            self.width.append(len(waiting))
            self.trace.append(f"{actor.name}: {'CRASHES before ' if actor.crashed else ''}{actor.at}")
            actor.go.release()
            self.back.acquire()
            if actor.error:
                raise actor.error
            for check in self.after_step:
                check()
            while self._later:
                late = self._later.pop()
                self._start(late)
                waiting.append(late)
            waiting = [one for one in waiting if one.at is not None]

    def _choose(self, waiting: list[Actor]) -> Actor:
        if self.delays is not None:
            return self._first_in_row(waiting, self.delays.get(len(self.trace), 0))
        if not self._ranked:
            return self.random.choice(waiting)
        first = min(waiting, key=lambda actor: actor.rank)
        if len(self.trace) in self._falls or (first.at or "").startswith(AGAIN):
            first.rank = 1 + max(actor.rank for actor in waiting)
        return min(waiting, key=lambda actor: actor.rank)

    def _first_in_row(self, waiting: list[Actor], delayed: int) -> Actor:
        row = [one for one in self._row if one in waiting]
        row += [one for one in waiting if one not in row]
        idle = 0  # who only waits steps back, once round the row
        while (row[0].at or "").startswith(AGAIN) and idle < len(row):
            row, idle = row[1:] + row[:1], idle + 1
        self._row = row[delayed:] + row[:delayed]
        return self._row[0]

    def later(self, actor: Actor) -> None:
        """Add an actor while others run: a request that is still on its way."""
        self._later.append(actor)

    def point(self, label: str) -> None:
        """Stop here until chosen. Outside the schedule (set-up, final checks) nothing stops."""
        actor = self._actors.get(threading.get_ident())
        if actor is None or getattr(self._here, "whole", False):
            return
        actor.at = label
        self.back.release()
        actor.go.acquire()
        if actor.crashed:
            raise Crash

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Nothing stops in here: a transaction, or a call at Stripe's side."""
        before, self._here.whole = getattr(self._here, "whole", False), True
        try:
            yield
        finally:
            self._here.whole = before

    def in_hand(self, *labels: str) -> bool:
        """Whether somebody is just about to do one of these."""
        waiting = (actor.at or "" for actor in self._actors.values() if not actor.crashed)
        return any(at.startswith(labels) for at in waiting)

    def _start(self, actor: Actor) -> None:
        thread = threading.Thread(target=actor.body, args=(self,), name=actor.name, daemon=True)
        thread.start()
        assert thread.ident is not None
        self._actors[thread.ident] = actor
        actor.rank = self.random.random()
