"""The one Task base: log context, services, and what happens when a flow raises (OPS-10, OPS-11, OPS-12).

failed      noted by the flow in the ledger, which says when it is tried again
transient   logged; a lane's job is put back with growing, jittered delay, five times, then it is the sweep's
permanent   logged; the flow has written down what it means
unexpected  logged with its traceback and counted; the worker goes on with the next message
A message that does not carry exactly its kind's arguments was not sent by us: it is refused and logged.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import asdict, fields
from datetime import timedelta
from typing import Any

import structlog
from celery import Task, current_task
from prometheus_client import Counter

from billing.coordination.jobs import Job, RowJob, WorkLane, WorkOperations
from billing.errors import PermanentError, TransientError
from billing.process import context_ids
from billing.rules.backoff import Backoff
from billing.services import Services

log = structlog.get_logger(__name__)

JOBS = Counter("onelane_jobs_total", "Jobs that a worker took, by what came of them.", ["kind", "outcome"])
BACKOFF = Backoff(timedelta(seconds=0.2), timedelta(seconds=30))  # 30 s: beyond it the sweep is as good
MOST_TRIES = 5  # then the sweep, which comes every 30 s
REMEMBERED = 10_000  # rows whose tries are counted; forgetting one costs a few more tries
LARGEST_ROW_ID = 2**63 - 1


class JobTask(Task):  # type: ignore[type-arg]  # celery's Task is generic in its stubs only
    """The task of one job kind.

    `alone`: one at a time in a process. A message that arrives meanwhile takes no thread, and is not lost: whoever is
    at work begins once more when they are through (NTF-10).
    """

    ignore_result = True
    max_retries = 0  # never Celery's own retry: it keeps arguments in the broker and counts per message

    def __init__(
        self,
        job: type[Job],
        work: Callable[[Any, Services], str | None],
        services: Callable[[], Services],
        *,
        alone: bool = False,
    ) -> None:
        self.name = job.kind
        self._job = job
        self._work = work
        self._services = services
        self._tries = Tries()
        self._alone = threading.Lock() if alone else None
        self._asked = threading.Event()

    def run(self, *args: Any, **kwargs: Any) -> None:
        """Do the job that the message names."""
        # type(), since True is an int too.
        rows = all(type(arg) is int and 0 < arg <= LARGEST_ROW_ID for arg in args)
        if kwargs or len(args) != len(fields(self._job)) or not rows:
            _count(self.name, "refused")
            log.warning("job.refused", kind=self.name, reason="not the arguments of this kind")
            return
        if self._alone is None:
            self._attempt(self._job(*args))
        else:
            self._run_alone(self._job(*args), self._alone)

    def _run_alone(self, job: Job, alone: threading.Lock) -> None:
        """Attempt it until nobody has asked since the last one began.

        Who asks does so before trying the lock, and who holds it looks again after letting go: so one of them sees it.
        """
        self._asked.set()
        while self._asked.is_set() and alone.acquire(blocking=False):
            try:
                self._asked.clear()
                self._attempt(job)
            finally:
                alone.release()

    def _attempt(self, job: Job) -> None:
        # Of a row only: what is due belongs to many, and says whose it is itself.
        message = current_task.request if current_task else None
        ids = context_ids.received(message.headers) if message and isinstance(job, RowJob) else {}
        task_id = message.id if message else None
        with structlog.contextvars.bound_contextvars(job=self.name, task_id=task_id, **asdict(job), **ids):
            error = attempt(self.name, lambda services: self._work(job, services), self._services)
            if isinstance(job, WorkLane | WorkOperations):
                self._put_back(job, error)

    def _put_back(self, job: WorkLane | WorkOperations, error: Exception | None) -> None:
        """Send it again where it failed in passing."""
        if not isinstance(error, TransientError):
            self._tries.forget(job.row_id)
            return
        tries = self._tries.count(job.row_id)
        if tries is None:
            log.warning("job.left_to_sweep", tries=MOST_TRIES + 1)
            return
        self._services().queue.send(job, delay_seconds=BACKOFF.wait_seconds(tries, error))


def attempt(kind: str, work: Callable[[Services], str | None], services: Callable[[], Services]) -> Exception | None:
    """Run the work. Gives back what it raised, logged and counted; raises nothing itself.

    What the work gives back is its outcome in the counter, where that is not `done`.
    """
    try:
        outcome = work(services())
    except TransientError as error:
        _count(kind, "transient")
        log.warning("job.put_off", error=error.code, sentence=error.for_operator)
        return error
    except PermanentError as error:
        _count(kind, "permanent")
        log.error("job.stopped", error=error.code, sentence=error.sentence)  # noqa: TRY400  # no traceback: it says it all
        return error
    except Exception as error:  # whatever it was, the next message must find a worker
        _count(kind, "unexpected")
        log.error("job.crashed", error=type(error).__name__, exc_info=True)
        return error
    _count(kind, outcome or "done")
    return None


class Tries:
    """How often each row was put back in this process. Kept in memory: losing it costs a few tries."""

    def __init__(self) -> None:
        self._counts: OrderedDict[int, int] = OrderedDict()
        self._guard = threading.Lock()

    def count(self, row_id: int) -> int | None:
        """Count one more try; how many there were before.

        None when it was the last: the row is the sweep's then, and begins anew when the sweep wakes it.
        """
        with self._guard:
            count = self._counts.pop(row_id, 0)
            if count >= MOST_TRIES:
                return None
            self._counts[row_id] = count + 1
            while len(self._counts) > REMEMBERED:
                self._counts.popitem(last=False)
        return count

    def forget(self, row_id: int) -> None:
        with self._guard:
            self._counts.pop(row_id, None)


def _count(kind: str, outcome: str) -> None:
    JOBS.labels(kind, outcome).inc()
