"""The one Task base, without a broker: what is refused, what is put back, how often and how late."""

from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from billing.coordination.jobs import JOB_KINDS, Job, RowJob, Sweep, WorkLane
from billing.errors import PermanentError, StripeUnclear, TransientError
from billing.services import Services
from worker.task_base import MOST_TRIES, REMEMBERED, JobTask, Tries


@dataclass
class World:
    """Services that note what is sent, and a flow that does what it is told."""

    sent: list[tuple[Job, float]] = field(default_factory=list)
    worked: list[Job] = field(default_factory=list)
    error: Exception | None = None

    @property
    def queue(self) -> "World":
        return self

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        self.sent.append((job, delay_seconds))
        return True

    def work(self, job: Job, _services: Services) -> None:
        self.worked.append(job)
        if self.error:
            raise self.error

    def task(self, kind: type[Job]) -> JobTask:
        return JobTask(kind, self.work, lambda: cast("Services", self))


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [([], {}), ([1, 2], {}), (["1"], {}), ([True], {}), ([1.0], {}), ([0], {}), ([-1], {}), ([2**63], {}), ([None], {}),
     ([[1]], {}), ([1], {"row_id": 1}), ([], {"row_id": 1})],
)  # fmt: skip
def test_anything_but_one_row_id_is_refused(args: list[Any], kwargs: dict[str, Any]) -> None:
    """OPS-12; faults row 74"""
    world = World()
    world.task(WorkLane).run(*args, **kwargs)
    assert world.worked == []


def test_lane_is_put_back_later_and_later_and_then_left_to_the_sweep() -> None:
    """OPS-11"""
    world = World(error=TransientError("Not now."))
    task = world.task(WorkLane)
    for _ in range(MOST_TRIES + 1):
        task.run(7)
    assert len(world.worked) == MOST_TRIES + 1
    delays = [delay for job, delay in world.sent if job == WorkLane(7)]
    assert len(delays) == MOST_TRIES
    for delay, step in zip(delays, (0.2, 0.4, 0.8, 1.6, 3.2), strict=True):
        assert step / 2 <= delay <= step
    task.run(7)
    assert world.sent[-1][1] <= 0.2, "woken by the sweep it begins anew"


def test_success_in_between_starts_the_count_anew() -> None:
    """OPS-11"""
    world = World(error=TransientError("Not now."))
    task = world.task(WorkLane)
    for _ in range(3):
        task.run(7)
    world.error = None
    task.run(7)
    world.error = TransientError("Not now.")
    task.run(7)
    assert world.sent[-1][1] <= 0.2


@pytest.mark.parametrize(("asked", "expected"), [(4.0, 4.0), (86_400.0, 30.0)])
def test_stripes_retry_after_is_kept_within_reason(asked: float, expected: float) -> None:
    world = World(error=StripeUnclear("Slow down.", status=429, retry_after=asked))
    world.task(WorkLane).run(7)
    assert world.sent == [(WorkLane(7), expected)]


@pytest.mark.parametrize("error", [PermanentError("Never."), RuntimeError("?"), RecursionError(), MemoryError()])
def test_what_will_not_get_better_is_not_put_back(error: Exception) -> None:
    """OPS-12: and nothing is raised."""
    world = World(error=error)
    world.task(WorkLane).run(7)
    assert world.worked == [WorkLane(7)]
    assert world.sent == []


@pytest.mark.parametrize("kind", [kind for kind in JOB_KINDS if not issubclass(kind, RowJob)])
def test_job_without_a_row_takes_no_arguments_and_is_not_put_back(kind: type[Job]) -> None:
    """OPS-12: its rows know when to come again."""
    world = World(error=TransientError("Not now."))
    world.task(kind).run(1)
    assert world.worked == []
    world.task(kind).run()
    assert (world.worked, world.sent) == ([kind()], [])


def test_memory_of_tries_is_bounded() -> None:
    tries = Tries()
    for row_id in range(REMEMBERED + 10):
        tries.count(row_id)
    assert len(tries._counts) == REMEMBERED


def test_task_that_runs_alone_begins_once_more_for_all_that_came_meanwhile() -> None:
    """NTF-10: none of them takes a thread, and none is lost."""
    task: JobTask
    begun: list[Job] = []
    running: list[int] = []

    def work(job: Job, _services: Services) -> None:
        begun.append(job)
        running.append(len(running))
        assert running == [0], "one at a time"
        if len(begun) == 1:
            for _ in range(3):
                task.run()
        running.pop()

    task = JobTask(Sweep, work, lambda: cast("Services", World()), alone=True)
    task.run()
    assert len(begun) == 2
    task.run()
    assert len(begun) == 3
