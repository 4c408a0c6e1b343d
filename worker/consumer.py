"""The guard at the queue's mouth: whatever lies in the list, the worker stays and says what it refused (OPS-12).

Celery and kombu take every message for one of their own; a stray or forged one ends the worker, or is
redelivered for ever. Here a message is either a task of ours in the shape that kombu writes, or gone.
"""

import base64
from collections.abc import Callable
from typing import Any

import kombu.transport.redis
import structlog
from celery import bootsteps
from celery.worker.consumer import Consumer
from kombu.utils.json import loads
from redis.exceptions import RedisError

from billing.jobs import BEAT_KINDS, JOB_KINDS

log = structlog.get_logger(__name__)

KINDS = frozenset({*(job.kind for job in JOB_KINDS), *BEAT_KINDS})
# What decoding and Celery's own reading raise for a message that is not as they expect. Not RuntimeError
# (beyond RecursionError) and no connection error: those are about us.
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError, RecursionError)


class GuardedConsumer(Consumer):
    """Celery's consumer, which refuses what is not a task of ours and survives what it cannot read."""

    def create_task_handler(self, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
        """Give the function that is called with each message."""
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

        kombu only logs it, and counts the message as in hand for ever: with as many of them as there are threads,
        nothing is read any more, and so nobody notices the lost connection. The broker gives the message back.
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


def guard_transport() -> None:
    """Let kombu's Redis transport drop what is no message before it trips over it.

    Patched, since kombu offers no hook between the list and its reading (5.7); other brokers' protocols
    do not let such a thing through.
    """
    transport = kombu.transport.redis.Transport
    if getattr(transport._deliver, "guarded", False):
        return
    deliver = transport._deliver

    def deliver_guarded(self: Any, message: Any, queue: str) -> None:
        if _well_formed(message):
            deliver(self, message, queue)
        else:
            log.warning("message.refused", reason="not in kombu's shape")

    deliver_guarded.guarded = True  # type: ignore[attr-defined]  # a mark, so that twice is once
    vars(kombu.transport.redis)["loads"] = _loads_or_none
    setattr(transport, "_deliver", deliver_guarded)  # noqa: B010  # a method is not assigned to


def _is_ours(headers: Any) -> bool:
    if not isinstance(headers, dict) or not isinstance(headers.get("task"), str) or headers["task"] not in KINDS:
        return False
    # We set no time limits, and Celery reads them only after it has counted the task as begun.
    return headers.get("timelimit") in (None, [None, None])


def _loads_or_none(text: Any) -> Any:
    try:
        return loads(text)
    except UNREADABLE:
        return None


def _well_formed(message: Any) -> bool:
    if not isinstance(message, dict):
        return False
    body, properties = message.get("body"), message.get("properties")
    if not isinstance(body, str) or not isinstance(properties, dict) or not isinstance(message.get("headers"), dict):
        return False
    if not isinstance(properties.get("delivery_tag"), str) or not isinstance(properties.get("delivery_info"), dict):
        return False
    try:
        base64.b64decode(body, validate=True)
    except ValueError:
        return False
    return properties.get("body_encoding") == "base64"
