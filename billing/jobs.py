"""Jobs: what travels through the queue. A job carries a row id and nothing else (LED-4).

A message is a wake-up. Losing one costs a delay until the sweep, never a result; forging one can
at worst make a worker look at a row again.
"""

from dataclasses import dataclass, field
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Job:
    """One wake-up: `kind` names the task, `queue` the Celery queue, `row_id` the row to look at.

    `about` names whom the work is for, where one wake-up is enough for all of their rows; it stays with the sender.
    """

    row_id: int
    about: str = field(default="", compare=False)
    kind: ClassVar[str]
    queue: ClassVar[str]


@dataclass(frozen=True, slots=True)
class WorkLane(Job):
    """Bring a lane to rest: answer its pending checkouts."""

    kind = "lane.work"
    queue = "checkout"


@dataclass(frozen=True, slots=True)
class WorkOperations(Job):
    """Finish what this lane's buyer asked to be changed of their subscription, in the order in which it came."""

    kind = "operations.work"
    queue = "checkout"  # a buyer waits here too


@dataclass(frozen=True, slots=True)
class ProcessEvent(Job):
    """Work the pending events of this event's customer."""

    kind = "event.process"
    queue = "webhooks"


@dataclass(frozen=True, slots=True)
class RemedyDuplicates(Job):
    """Do what DUPLICATE_POLICY says about this incident."""

    kind = "duplicates.remedy"
    queue = "maintenance"


@dataclass(frozen=True, slots=True)
class Reconcile(Job):
    """Find what Stripe never delivered, if it is time, for as long as a task may take."""

    kind = "ledger.reconcile"
    queue = "maintenance"


@dataclass(frozen=True, slots=True)
class Prune(Job):
    """Let go of what is older than RETENTION_DAYS, if it is time."""

    kind = "ledger.prune"
    queue = "maintenance"


RECONCILE_ROW, PRUNE_ROW = 1, 2  # the rows of maintenance runs
JOB_KINDS: tuple[type[Job], ...] = (WorkLane, WorkOperations, ProcessEvent, RemedyDuplicates, Reconcile, Prune)
# Kinds that carry no row: beat sends them, and any number of them at once is harmless.
SWEEP_KIND = "ledger.sweep"
NOTIFY_KIND = "outbox.notify"
BEAT_KINDS = (SWEEP_KIND, NOTIFY_KIND)
MAINTENANCE_QUEUE = "maintenance"
QUEUES = ("checkout", "webhooks", MAINTENANCE_QUEUE)
