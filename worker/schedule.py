"""Beat: sends the sweep every 30 seconds and remembers nothing, so any number of beats does no harm (OPS-9).

A sweep only wakes rows that wait; two at once wake the same rows. One that was not taken within its interval expires.
The broker keeps it all the same until a worker reads it, so nothing is sent while MOST_WAITING wait (OPS-135).
"""

from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.beat import Scheduler
from kombu.exceptions import OperationalError

from billing.coordination.jobs import Job, Notify, Prune, Reconcile, Sweep
from billing.coordination.queue import waiting
from worker.alive import AliveFile

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 30  # how late a lost wake-up is noticed
NOTIFY_SECONDS = 5  # how late a change is sent whose wake-up was lost, or that is due again
LOOK_SECONDS = 60  # how often it is looked whether reconciling and pruning are due; their rows say when
SCHEDULE: dict[str, dict[str, Any]] = {
    job.kind: {"task": job.kind, "schedule": seconds, "options": {"expires": seconds}}
    for job, seconds in (
        (Sweep, SWEEP_SECONDS),
        (Notify, NOTIFY_SECONDS),
        (Reconcile, LOOK_SECONDS),
        (Prune, LOOK_SECONDS),
    )
}
MOST_WAITING = 20  # messages that nobody reads: two minutes of them
TICK_SECONDS = 5  # how often beat shows that it is alive

NOBODY_READS = f"No worker reads the queue {Job.queue!r}: nothing more is sent to it. Start a worker with that queue."


class MemoryScheduler(Scheduler):
    """Celery's scheduler without a file, which touches `alive_file` at every tick."""

    alive_file = AliveFile(None)
    full = False  # as last told

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. Returns the seconds until the next look."""
        self.alive_file.touch()
        return float(super().tick(*args, **kwargs))

    def apply_entry(self, entry: Any, producer: Any = None) -> None:
        """Send one message, unless too many wait for a worker."""
        full = nobody_reads(self.app)
        if full and not self.full:
            log.warning("beat.nobody_reads", queue=Job.queue, sentence=NOBODY_READS)
        self.full = full
        if not full:
            super().apply_entry(entry, producer=producer)


def nobody_reads(celery: Celery) -> bool:
    """Whether MOST_WAITING messages wait; False where the broker does not say: then sending tells."""
    try:
        return waiting(celery, Job.queue) >= MOST_WAITING
    except Exception:  # noqa: BLE001  # each broker's library has errors of its own
        return False


def run_beat(celery: Celery, *, alive_file: Path | None) -> None:
    """Send one sweep at once, for a beat that never lives 30 seconds, then one each interval, until a signal."""
    MemoryScheduler.alive_file = AliveFile(alive_file)
    try:
        if not nobody_reads(celery):
            celery.send_task(Sweep.kind, expires=SWEEP_SECONDS)
    except OperationalError as error:
        log.warning("sweep.not_sent", error=type(error).__name__)
    log.info("beat.started", sweep_seconds=SWEEP_SECONDS)
    celery.Beat(max_interval=TICK_SECONDS, quiet=True, loglevel="INFO").run()
