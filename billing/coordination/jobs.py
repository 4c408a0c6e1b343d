"""Jobs: what travels through the queue. A job names a kind of work, and at most one row to look at (LED-4).

A message is a wake-up. Losing one costs a delay until the sweep, never a result; forging one can
at worst make a worker look again.
"""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Job:
    """One wake-up: `kind` names the task, `queue` the Celery queue. A job without a row is for all that is due."""

    kind: ClassVar[str]
    queue: ClassVar[str] = "maintenance"


@dataclass(frozen=True, slots=True)
class RowJob(Job):
    """A wake-up for one row."""

    row_id: int


@dataclass(frozen=True, slots=True)
class WorkLane(RowJob):
    """Bring a lane to rest: answer its pending checkouts."""

    kind = "lane.work"
    queue = "checkout"


@dataclass(frozen=True, slots=True)
class WorkOperations(RowJob):
    """Finish what this lane's buyer asked to be changed of their subscription, in the order in which it came."""

    kind = "operations.work"
    queue = "checkout"  # a buyer waits here too


@dataclass(frozen=True, slots=True)
class WorkEvents(Job):
    """Work customers whose events are due."""

    kind = "events.work"
    queue = "webhooks"


@dataclass(frozen=True, slots=True)
class SyncCustomers(Job):
    """Fetch the customers that were taken over and not fetched since."""

    kind = "customers.sync"
    queue = "webhooks"  # a buyer who pays already waits for access


@dataclass(frozen=True, slots=True)
class RemedyDuplicates(RowJob):
    """Do what DUPLICATE_POLICY says about this incident."""

    kind = "duplicates.remedy"


@dataclass(frozen=True, slots=True)
class ReplayEvents(RowJob):
    """Set the next batch of this replay back."""

    kind = "events.replay"


@dataclass(frozen=True, slots=True)
class Examine(RowJob):
    """Look at the installation as `onelane doctor --read-only` does, for who asked in the console."""

    kind = "doctor.examine"


@dataclass(frozen=True, slots=True)
class Reconcile(Job):
    """Find what Stripe never delivered, if it is time, for as long as a task may take."""

    kind = "ledger.reconcile"


@dataclass(frozen=True, slots=True)
class Prune(Job):
    """Let go of what is older than RETENTION_DAYS, if it is time."""

    kind = "ledger.prune"


@dataclass(frozen=True, slots=True)
class Sweep(Job):
    """Wake workers for what a lost message left behind."""

    kind = "ledger.sweep"


@dataclass(frozen=True, slots=True)
class Notify(Job):
    """Tell the application what changed."""

    kind = "outbox.notify"


JOB_KINDS: tuple[type[Job], ...] = (
    WorkLane, WorkOperations, WorkEvents, SyncCustomers, RemedyDuplicates, ReplayEvents, Examine,
    Reconcile, Prune, Sweep, Notify
)  # fmt: skip
QUEUES = ("checkout", "webhooks", "maintenance")
