"""Consuming: runs Celery's worker in this process until SIGTERM, with threads, and shows that its loop turns.

SIGTERM takes no more messages, finishes the work in hand and gives the rest back to the queue (OPS-14).
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, bootsteps

log = structlog.get_logger(__name__)

ALIVE_SECONDS = 5  # how often the loop touches its file; a minute without is a worker to replace


def consume(
    celery: Celery, *, queues: Sequence[str], concurrency: int, name: str, alive_file: Path | None = None
) -> int:
    """Work messages until a signal. Returns the exit code."""
    if alive_file:
        celery.steps["consumer"].add(_alive_step(alive_file))
    log.info("worker.started", queues=",".join(queues), concurrency=concurrency)
    worker = celery.Worker(
        hostname=f"{name}@{os.uname().nodename}",
        pool="threads",  # a job waits for Stripe and the ledger, each call with its own timeout
        concurrency=concurrency,
        queues=list(queues),
        without_mingle=True,  # 11 s at start otherwise
        without_gossip=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="INFO",
    )
    worker.start()
    log.info("worker.stopped")
    return worker.exitcode or 0


def _alive_step(path: Path) -> type[bootsteps.StartStopStep]:
    class Alive(bootsteps.StartStopStep):
        """Touches a file from the consumer's own timer: no touch, no loop."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
            self._timer = consumer.timer.call_repeatedly(ALIVE_SECONDS, path.touch)

        def stop(self, _consumer: Any) -> None:
            self._timer.cancel()

    return Alive
