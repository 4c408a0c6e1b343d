"""Consuming: runs Celery's worker in this process until SIGTERM, with threads, and shows that its loop turns.

SIGTERM takes no more messages, finishes the work in hand and gives the rest back to the queue (OPS-14). A message that
is no task of ours is refused (OPS-12).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
from celery import Celery, bootsteps
from celery.apps.worker import Worker
from celery.worker.consumer import Consumer
from redis.exceptions import RedisError

from billing.coordination.jobs import JOB_KINDS
from billing.process.exits import hang_up_like_term
from worker.alive import AliveFile

log = structlog.get_logger(__name__)

ALIVE_SECONDS = 5  # how often the loop touches its file; a minute without is a worker to replace
KINDS = frozenset(job.kind for job in JOB_KINDS)
# What decoding and Celery's own reading raise for a message that is not as they expect. Not RuntimeError
# (beyond RecursionError) and no connection error: those are about us.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


def consume(
    celery: Celery, *, queues: Sequence[str], concurrency: int, name: str, alive_file: Path | None = None
) -> int:
    """Work messages until a signal. Returns the exit code."""
    if alive_file:
        celery.steps["consumer"].add(_alive_step(alive_file))
    log.info("worker.started", queues=",".join(queues), concurrency=concurrency)
    worker = _Worker(
        app=celery,
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


class _Worker(Worker):
    """Celery's worker. By itself it takes SIGHUP for "start anew"."""

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        hang_up_like_term()


def _alive_step(path: Path) -> type[bootsteps.StartStopStep]:
    class Alive(bootsteps.StartStopStep):
        """Touches a file from the consumer's own timer: no touch, no loop."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, consumer: Any) -> None:
            file = AliveFile(path)
            file.touch()
            self._timer = consumer.timer.call_repeatedly(ALIVE_SECONDS, file.touch)

        def stop(self, _consumer: Any) -> None:
            self._timer.cancel()

    return Alive


class GuardedConsumer(Consumer):
    """Celery's consumer, which refuses what is not a task of ours and survives what it cannot read."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        receive = super().create_task_handler(*args, **kwargs)

        def receive_guarded(message: Any) -> None:
            message.ack_log_error = self._loud(message.ack)
            message.reject_log_error = self._loud(message.reject)
            if not _is_ours(message.headers):
                self._refuse(message, "no task of ours")
                return
            try:
                receive(message)
            except UNREADABLE as error:
                self._refuse(message, type(error).__name__)

        return receive_guarded

    def _loud(self, settle: Callable[..., None]) -> Callable[..., None]:
        """Acknowledge or reject; where that fails, let the loop connect anew (OPS-25).

        kombu only logs it, and counts the message as in hand for ever. With as many of them as there are threads,
        nothing is read any more. So nobody notices the lost connection. The broker gives the message back.
        """

        def settle_or_reconnect(_logger: object, errors: tuple[type[Exception], ...], **how: Any) -> None:
            # Redis' own error, too: it answers, and takes no writes.
            failures: tuple[type[Exception], ...] = (*errors, RedisError)
            try:
                settle(**how)
            except failures as error:
                log.warning("message.not_acknowledged", error=type(error).__name__)
                if self.blueprint.state == bootsteps.RUN:  # type: ignore[attr-defined]  # not in the stubs
                    raise

        return settle_or_reconnect

    def _refuse(self, message: Any, reason: str) -> None:
        log.warning("message.refused", reason=reason)
        if not message.acknowledged:  # else the broker would give it back, again and again
            message.reject_log_error(log, self.conninfo.connection_errors)  # type: ignore[attr-defined]  # not in the stubs


def _is_ours(headers: Any) -> bool:
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str) or headers["task"] not in KINDS:
        return False
    # We set no time limits, and Celery reads them only after it has counted the task as begun.
    return headers.get("timelimit") in (None, [None, None])
