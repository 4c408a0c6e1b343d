"""Beat: sends the sweep every 30 seconds and remembers nothing, so any number of beats does no harm (OPS-9).

A sweep only wakes rows that wait; two at once wake the same rows. One that was not taken within its
interval expires, so that a stopped worker finds one sweep in its queue and not a thousand.
"""

from pathlib import Path
from typing import Any

import structlog
from celery import Celery
from celery.beat import Scheduler
from kombu.exceptions import OperationalError

from billing.coordination.jobs import Notify, Prune, Reconcile, Sweep
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
TICK_SECONDS = 5  # how often beat shows that it is alive


class MemoryScheduler(Scheduler):
    """Celery's scheduler without a file, which touches `alive_file` at every tick."""

    alive_file = AliveFile(None)

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. Returns the seconds until the next look."""
        self.alive_file.touch()
        return float(super().tick(*args, **kwargs))


def run_beat(celery: Celery, *, alive_file: Path | None) -> None:
    """Send one sweep at once, for a beat that never lives 30 seconds, then one each interval, until a signal."""
    MemoryScheduler.alive_file = AliveFile(alive_file)
    try:
        celery.send_task(Sweep.kind, expires=SWEEP_SECONDS)
    except OperationalError as error:
        log.warning("sweep.not_sent", error=type(error).__name__)
    log.info("beat.started", sweep_seconds=SWEEP_SECONDS)
    celery.Beat(max_interval=TICK_SECONDS, quiet=True, loglevel="INFO").run()
