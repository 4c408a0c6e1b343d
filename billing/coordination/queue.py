"""The queue, from the sending side: jobs go out as Celery messages, by kind and with a row id at most.

A message is a wake-up. The ledger row was committed before it is sent, so one that cannot be sent is logged and left to
the sweep. At most one message for each row waits at a time, and one for each kind without rows. A storm of requests on
one lane is one wake-up, not a thousand.
"""

import threading
import time
from dataclasses import asdict, astuple
from typing import Any, Protocol

import redis
import structlog
from celery import Celery
from kombu import Queue as KombuQueue
from kombu.exceptions import LimitExceeded, OperationalError
from kombu.transport import TRANSPORT_ALIASES
from prometheus_client import Counter
from redis.exceptions import RedisError, ResponseError

from billing.coordination.jobs import JOB_KINDS, QUEUES, Job, RowJob
from billing.coordination.redis_client import comes_of, connection_arguments, is_refusal, sentinel_arguments
from billing.errors import ConfigurationError
from billing.process import context_ids
from billing.process.server_url import OtherBroker, RedisServer, celery_urls, read_broker
from billing.process.settings import KEY_PREFIX, Settings

log = structlog.get_logger(__name__)

NOT_SENT = Counter("onelane_jobs_not_sent_total", "Wake-ups that the broker did not take; the sweep's now.", ["kind"])

# 5 s: after that a lost message no longer keeps the next one from being sent.
ONCE_MILLISECONDS = 5000
BROKER_ANSWER_SECONDS, BLOCKS_SECONDS = 9, 1
# A message takes half a millisecond, so two connections of a process send for hundreds of threads. Who finds none free
# for so long leaves the message to the sweep: the broker hangs.
PRODUCERS, FREE_SECONDS = 2, 0.5
NOT_REACHABLE, REFUSED = "not reachable", "refuses our login: see `onelane doctor`"
TAKES_NOTHING = "takes no messages (its memory is full, or it is read only): see `onelane doctor`"
ASKED_SECONDS = 1.0  # how long an answer about the broker holds, for those who ask at the same moment


class Queue(Protocol):
    """Where flows send jobs."""

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Wake a worker, now or a little later; whether the broker heard. Never raises: the sweep finds the rest."""

    def taken(self, job: Job) -> None:
        """Note that a worker has begun with this job: the next `send` sends again."""

    def trouble(self) -> str | None:
        """What is wrong with the broker just now; None where it takes messages. Asked at most once a second."""


def create_producer(settings: Settings) -> Celery:
    """The Celery application, its transport settled; `worker/app.py` adds the tasks. Raises ConfigurationError."""
    name = "CELERY_BROKER_URL" if settings.celery_broker_url else "REDIS_URL"
    try:
        broker = read_broker(settings.broker_url)
    except ValueError as error:
        raise ConfigurationError(f"{name} {error}.") from None
    url = broker.url if isinstance(broker, OtherBroker) else celery_urls(broker)
    if url.partition("://")[0].partition("+")[0] not in TRANSPORT_ALIASES:
        raise ConfigurationError(f"{name} is no address of a broker. Set {name} like redis://host:6379/0.")
    celery = Celery("onelane", broker=url, set_as_current=False)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_queues=[KombuQueue(name) for name in QUEUES],
        task_default_queue=Job.queue,
        task_routes={job.kind: {"queue": job.queue} for job in JOB_KINDS},
        broker_connection_retry_on_startup=True,
        broker_pool_limit=PRODUCERS,
        broker_transport_options=_other_options(broker)
        if isinstance(broker, OtherBroker)
        else _redis_options(broker, settings),
        # Without it kombu takes rediss:// for "verify nothing".
        broker_use_ssl=dict(broker.tls) if broker.tls else False,
        # Short: a publisher is a web request; what is not sent within 0.2 s is the sweep's.
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
    )
    return celery


def _other_options(broker: OtherBroker) -> dict[str, Any]:
    # A RabbitMQ whose memory is full stops reading: a request of the web is not kept by that.
    return {"write_timeout": 3} if broker.url.startswith("amqp") else {}


def _redis_options(server: RedisServer, settings: Settings) -> dict[str, Any]:
    options = {
        "visibility_timeout": 120,  # above the longest task (a lane pass, under 60 s) and every countdown
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,  # a killed worker's message is back after 127 s, not after ten minutes
        "global_keyprefix": settings.redis_key_prefix,
        # A half-open connection is noticed after 10 s. A worker's pop blocks for a second of its own accord.
        **connection_arguments(server, BROKER_ANSWER_SECONDS),
    }
    options["socket_timeout"] += BLOCKS_SECONDS
    if "socket_connect_timeout" not in server.options and not server.socket:
        options["socket_connect_timeout"] = 3
    if server.master:
        options["master_name"] = server.master
        options["sentinel_kwargs"] = sentinel_arguments(server, BROKER_ANSWER_SECONDS)
    return options


class CeleryQueue:
    """Sends jobs through Celery; a mark in Redis keeps a second message for the same back while one waits."""

    def __init__(self, celery: Celery, client: "redis.Redis", *, prefix: str = KEY_PREFIX) -> None:
        self._celery = celery
        self._client = client
        self._prefix = prefix
        self._asking = threading.Lock()
        self._asked: tuple[float, str | None] = (-ASKED_SECONDS, None)  # when, and what came of it

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Send the job unless one for the same is already on its way."""
        mark, milliseconds = _mark(self._prefix, job, delay_seconds)
        try:
            if self._client.set(mark, 1, nx=True, px=milliseconds):
                with self._celery.producer_pool.acquire(block=True, timeout=FREE_SECONDS) as producer:
                    self._celery.send_task(
                        job.kind,
                        args=list(astuple(job)),
                        countdown=delay_seconds or None,
                        headers={context_ids.HEADER: context_ids.carried()},
                        producer=producer,
                    )
        except (OperationalError, LimitExceeded, RedisError, OSError) as error:
            NOT_SENT.labels(job.kind).inc()
            log.warning("job.not_sent", kind=job.kind, **asdict(job), error=type(error).__name__)
            return False
        return True

    def taken(self, job: Job) -> None:
        """Remove the job's mark. Called before the ledger is read, so that a later change sends anew."""
        try:
            self._client.delete(_mark(self._prefix, job)[0])
        except RedisError as error:
            log.warning("job.mark_unavailable", kind=job.kind, **asdict(job), error=type(error).__name__)

    def trouble(self) -> str | None:
        """Ask the broker over a connection of its own, one of this process at a time; 1 s is enough for each step."""
        with self._asking:
            at, found = self._asked
            if time.monotonic() - at >= ASKED_SECONDS:
                found = self._ask()
                self._asked = (time.monotonic(), found)
            return found

    def _ask(self) -> str | None:
        redis_broker = "global_keyprefix" in self._celery.conf.broker_transport_options
        # The time-outs hold for closing, too: a RabbitMQ whose memory is full answers nothing.
        quick: dict[str, Any] = {"confirm_publish": True, "read_timeout": 0.5, "write_timeout": 0.5}
        if redis_broker:
            quick = {"socket_timeout": 1, "socket_connect_timeout": 1}
        with self._celery.connection_for_write(connect_timeout=1, transport_options=quick) as connection:
            errors: tuple[Any, ...] = (*connection.connection_errors, *connection.channel_errors)
            try:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
                if redis_broker:
                    # A Redis whose memory is full answers every PING, and so does a replica.
                    channel: Any = connection.channel()
                    channel.client.set("nobody", 1, px=ONCE_MILLISECONDS)
                else:
                    # To a queue that nobody has: the broker drops and confirms it. With its memory or its disk full, a
                    # RabbitMQ connects and confirms one message. It reads nothing after that.
                    producer = connection.Producer()
                    for _ in range(2):
                        producer.publish(b"", routing_key=f"{self._prefix}nobody", confirm_timeout=0.5)
            except (OperationalError, RedisError, OSError, *errors) as error:
                if is_refusal(error):
                    return REFUSED
                return TAKES_NOTHING if comes_of(error, ResponseError) else NOT_REACHABLE
        return None


def waiting(celery: Celery, queue: str) -> int:
    """How many messages wait in a queue. Raises what the broker's library raises."""
    with celery.connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, interval_start=0, timeout=3)
        channel: Any = connection.channel()
        # As Celery declares it. Not `passive`: with a key prefix, kombu then looks for the queue without it.
        return int(channel.queue_declare(queue, durable=True, auto_delete=False).message_count)


def _mark(prefix: str, job: Job, delay_seconds: float = 0) -> tuple[str, int]:
    """The key that says that such a message waits, and its milliseconds.

    A job without a row may be sent for several moments. There is one message for each tenth of a second; its mark ends
    when it is due and keeps no other one back.
    """
    name, delay = ":".join(map(str, (f"{prefix}once", job.kind, *astuple(job)))), int(delay_seconds * 1000)
    if delay and not isinstance(job, RowJob):
        return f"{name}:{int((time.time() + delay_seconds) * 10)}", delay
    return name, ONCE_MILLISECONDS + delay


class InlineQueue:
    """The twin without a broker: keeps what was sent. For tests, and for commands that leave the work to the sweep."""

    def __init__(self) -> None:
        self.sent: list[Job] = []

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        if job not in self.sent:
            self.sent.append(job)
        return True

    def taken(self, job: Job) -> None:
        """Nothing to forget: `send` looks at what waits."""

    def trouble(self) -> str | None:
        return None


def while_reachable(queue: Queue) -> Queue:
    """This queue; while its broker is away one that sends nothing and costs no time, since the sweep wakes workers."""
    return queue if queue.trouble() is None else InlineQueue()
