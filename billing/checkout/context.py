"""What a pass over a lane is handed, for its checkouts and its operations alike."""

from dataclasses import dataclass

from billing.coordination.jobs import WorkLane, WorkOperations
from billing.coordination.locks import Locks, retry_seconds
from billing.coordination.wakeups import Wakeups
from billing.subscriptions import context

LONGEST_DELAY_SECONDS = 10.0  # a longer wait stands in SQL, and the sweep ends it (every 30 s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Context(context.Context):
    """The collaborators of every step."""

    locks: Locks
    wakeups: Wakeups
    reuse_seconds: int

    def put_back(self, job: WorkLane | WorkOperations) -> None:
        """Another worker holds the lane's lock: try again in a moment."""
        self.queue.send(job, delay_seconds=retry_seconds())

    def send_later(self, job: WorkLane | WorkOperations, seconds: float) -> None:
        """Work the lane again after so many seconds: a short wait is the queue's, a long one the sweep's."""
        if seconds <= LONGEST_DELAY_SECONDS:
            self.queue.send(job, delay_seconds=seconds)
