"""The workers of a test: jobs are worked where they are sent, by the same tasks as in production.

What has to wait (a second fetch within a second, a retry) is waited for by moving the test's clock, and only when the
test lets everything be worked.
"""

import threading
from collections.abc import Callable
from dataclasses import astuple
from datetime import datetime, timedelta

from billing.coordination.jobs import Job
from billing.process.settings import Settings
from billing.services import Services
from worker.app import create_celery

MOST_JOBS = 10_000  # of one call: so many only where jobs bring each other for ever


class MovableClock:
    """A clock that stands still until a test moves it."""

    def __init__(self, time: datetime) -> None:
        self.time = time

    def now(self) -> datetime:
        """The test's time."""
        return self.time

    def advance(self, **delta: float) -> None:
        """Let time pass: `advance(seconds=30)`."""
        self.time += timedelta(**delta)


class Workers:
    """The queue and those who work it. Safe from the threads of a server: one works at a time, others wait."""

    def __init__(self, settings: Settings, services: Callable[[], Services], clock: MovableClock) -> None:
        self._tasks = create_celery(settings, services=services, threads=1).tasks
        self._clock = clock
        self._waiting: list[tuple[datetime, Job]] = []
        self._guard = threading.RLock()
        self._working = False

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Have the job worked: at once where it need not wait."""
        with self._guard:
            if all(job != other for _, other in self._waiting):
                self._waiting.append((self._clock.now() + timedelta(seconds=delay_seconds), job))
            self._work(patient=False)
        return True

    def taken(self, job: Job) -> None:
        """Nothing to forget: `send` looks at what waits."""

    def trouble(self) -> str | None:
        """Never any: it is here."""
        return None

    def finish(self) -> None:
        """Work until nothing waits; what has to wait is waited for."""
        with self._guard:
            self._work(patient=True)

    def _work(self, *, patient: bool) -> None:
        if self._working:  # a job that sends another: the loop below finds it
            return
        self._working = True
        try:
            for _ in range(MOST_JOBS):
                if not self._waiting:
                    return
                due = min(self._waiting, key=lambda one: one[0])
                if due[0] > self._clock.now():
                    if not patient:
                        return
                    self._clock.time = due[0]
                self._waiting.remove(due)
                self._tasks[due[1].kind].run(*astuple(due[1]))
            raise RuntimeError(f"{MOST_JOBS} jobs were worked and more wait: {self._waiting[0][1]}")
        finally:
            self._working = False
