"""What a pass over a lane is handed, for its checkouts and its operations alike."""

import random
from dataclasses import dataclass

from billing.catalog import Catalog
from billing.clock import Clock
from billing.database import Database
from billing.jobs import WorkLane, WorkOperations
from billing.locks import Locks
from billing.queue import Queue
from billing.stripe_gateway import StripeGateway
from billing.wakeups import Wakeups

# A lock is given back within seconds. A longer wait stands in SQL, and the sweep ends it (every 30 s).
LOCK_JITTER_SECONDS = (0.1, 0.4)
LONGEST_DELAY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Context:
    """The collaborators of every step."""

    database: Database
    stripe: StripeGateway
    locks: Locks
    queue: Queue
    wakeups: Wakeups
    clock: Clock
    catalog: Catalog
    reuse_seconds: int

    def put_back(self, job: WorkLane | WorkOperations) -> None:
        """Another worker holds the lane's lock: try again in a moment."""
        self.queue.send(job, delay_seconds=random.uniform(*LOCK_JITTER_SECONDS))  # noqa: S311 (jitter)

    def send_later(self, job: WorkLane | WorkOperations, seconds: float) -> None:
        """Work the lane again after so many seconds: a short wait is the queue's, a long one the sweep's."""
        if seconds <= LONGEST_DELAY_SECONDS:
            self.queue.send(job, delay_seconds=seconds)
