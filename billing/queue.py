"""The queue, from the sending side: jobs go out as Celery messages, by kind and with a row id only.

A message is a wake-up. The ledger row was committed before it is sent, so one that cannot be sent is
logged and left to the sweep. At most one message per row waits at a time (`once`): a storm of
requests on one lane is one wake-up, not a thousand. Many jobs go out in one round trip (`send_all`).
"""

from collections.abc import Sequence
from typing import Any, Protocol

import redis
import structlog
from celery import Celery
from kombu import Queue as KombuQueue
from kombu.exceptions import OperationalError
from kombu.transport import TRANSPORT_ALIASES
from prometheus_client import Counter
from redis.exceptions import RedisError

from billing.celery_message import celery_message
from billing.errors import ConfigurationError
from billing.jobs import BEAT_KINDS, JOB_KINDS, MAINTENANCE_QUEUE, QUEUES, Job
from billing.settings import Settings

log = structlog.get_logger(__name__)

NOT_SENT = Counter("onelane_jobs_not_sent_total", "Wake-ups that the broker did not take; the sweep's now.", ["kind"])

# 5 s: after that a lost message no longer keeps the next one from being sent.
ONCE_MILLISECONDS = 5000
KEY_PREFIX = "onelane:"
REDIS = ("redis", "rediss")  # where a queue is a list that we can push to

# In one round trip: for each job that nobody is awake for, its marks and its message. The row's mark holds the name of
# the other one, by whom the job is about, so that the worker, who knows the row only, takes both away.
_SEND_ALL = """
for n = 1, #ARGV - 1 do
  local list, row, about = KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n]
  if redis.call('SET', about, about, 'NX', 'PX', ARGV[1]) then
    if row ~= about then redis.call('SET', row, about, 'PX', ARGV[1]) end
    redis.call('LPUSH', list, ARGV[n + 1])
  end
end
"""
_TAKEN = """
local about = redis.call('GET', KEYS[1])
redis.call('DEL', KEYS[1])
if about and about ~= KEYS[1] then redis.call('DEL', about) end
"""


class Queue(Protocol):
    """Where flows send jobs."""

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Wake a worker, now or a little later; whether the broker heard. Never raises: the sweep finds the rest."""

    def send_all(self, jobs: Sequence[Job]) -> bool:
        """Wake workers for all of these now, once for those about the same. Never raises, like `send`."""

    def taken(self, job: Job) -> None:
        """Note that a worker has begun with this job: the next `send` sends again."""

    def reachable(self) -> bool:
        """Whether the broker answers just now, asked anew (for /readyz)."""


def create_producer(settings: Settings) -> Celery:
    """The Celery application, its transport settled; `worker/app.py` adds the tasks. Raises ConfigurationError."""
    transport = settings.broker_url.partition("://")[0].partition("+")[0]
    if transport not in TRANSPORT_ALIASES:
        name = "CELERY_BROKER_URL" if settings.celery_broker_url else "REDIS_URL"
        raise ConfigurationError(f"{name} is no address of a broker. Set {name} like redis://host:6379/0.")
    celery = Celery("onelane", broker=settings.broker_url, set_as_current=False)
    celery.conf.update(
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_create_missing_queues=False,
        task_queues=[KombuQueue(name) for name in QUEUES],
        task_default_queue=MAINTENANCE_QUEUE,
        task_routes={
            **{kind.kind: {"queue": kind.queue} for kind in JOB_KINDS},
            **{kind: {"queue": MAINTENANCE_QUEUE} for kind in BEAT_KINDS},
        },
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport_options(settings.broker_url),
        # Short: a publisher is a web request; what is not sent within 0.2 s is the sweep's.
        task_publish_retry_policy={
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
            "interval_max": 0.1,
        },
    )
    return celery


def writes_directly(settings: Settings) -> bool:
    """Whether the broker is the Redis of REDIS_URL."""
    return settings.broker_url == settings.redis_url and settings.redis_url.partition("://")[0] in REDIS


def _transport_options(broker_url: str) -> dict[str, Any]:
    if not broker_url.startswith(("redis", "valkey", "sentinel", "unix")):
        return {}
    return {
        "visibility_timeout": 120,  # above the longest task (a lane pass, under 60 s) and every countdown
        "unacked_restore_interval": 5,
        "unacked_restore_throttle": 1,  # a killed worker's message is back after 127 s, not after ten minutes
        "socket_timeout": 10,  # a half-open connection is noticed
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 5,
        "global_keyprefix": KEY_PREFIX,
    }


class CeleryQueue:
    """Sends jobs through Celery; `once` keys in Redis keep one message per row."""

    def __init__(self, celery: Celery, client: "redis.Redis", *, direct: bool = False) -> None:
        """`direct`: the client's Redis is also the broker, so that messages can be written into its lists."""
        self._celery = celery
        self._client = client
        self._direct = direct
        self._send_all, self._taken = client.register_script(_SEND_ALL), client.register_script(_TAKEN)

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Send the job unless one for the same row is already on its way."""
        if self._direct and not delay_seconds:
            return self.send_all([job])
        try:
            if self._first(job, delay_seconds):
                self._celery.send_task(job.kind, args=[job.row_id], countdown=delay_seconds or None)
        except (OperationalError, RedisError, OSError) as error:
            NOT_SENT.labels(job.kind).inc()
            log.warning("job.not_sent", kind=job.kind, row_id=job.row_id, error=type(error).__name__)
            return False
        return True

    def send_all(self, jobs: Sequence[Job]) -> bool:
        """Send each of the jobs unless one for the same row, or about the same, is already on its way."""
        if not self._direct or len(jobs) == 0:
            return sum(self.send(job) for job in jobs) == len(jobs)
        keys = [key for job in jobs for key in (f"{KEY_PREFIX}{job.queue}", self._key(job), self._about_key(job))]
        try:
            self._send_all(keys=keys, args=[ONCE_MILLISECONDS, *map(celery_message, jobs)])
        except (RedisError, OSError) as error:
            NOT_SENT.labels(jobs[0].kind).inc(len(jobs))
            log.warning("jobs.not_sent", kind=jobs[0].kind, count=len(jobs), error=type(error).__name__)
            return False
        return True

    def taken(self, job: Job) -> None:
        """Forget that the job is on its way. Called before reading the row: a later change sends anew."""
        try:
            self._taken(keys=[self._key(job)])
        except RedisError as error:
            log.warning("job.mark_unavailable", kind=job.kind, row_id=job.row_id, error=type(error).__name__)

    def reachable(self) -> bool:
        """Open a channel, which with Redis as the broker sends a PING; 1 s is enough for that."""
        quick = {"socket_timeout": 1, "socket_connect_timeout": 1} if self._celery.conf.broker_transport_options else {}
        try:
            with self._celery.connection_for_write(connect_timeout=1, transport_options=quick) as connection:
                connection.ensure_connection(max_retries=1, interval_start=0, timeout=1)
                connection.channel()
        except (OperationalError, RedisError, OSError):
            return False
        return True

    def _first(self, job: Job, delay_seconds: float) -> bool:
        if job.about and delay_seconds:  # gone when it is due: nobody has to take this mark away
            key, lifetime = self._about_key(job), max(1, int(delay_seconds * 1000))
        else:
            key, lifetime = self._key(job), ONCE_MILLISECONDS + int(delay_seconds * 1000)
        return bool(self._client.set(key, key, nx=True, px=lifetime))

    @staticmethod
    def _key(job: Job) -> str:
        return f"{KEY_PREFIX}once:{job.kind}:{job.row_id}"

    def _about_key(self, job: Job) -> str:
        return f"{KEY_PREFIX}once:{job.kind}:about:{job.about}" if job.about else self._key(job)


class InlineQueue:
    """The twin for tests: keeps what was sent; the test (or `run`) decides when it is worked."""

    def __init__(self) -> None:
        self.sent: list[Job] = []

    def send(self, job: Job, *, delay_seconds: float = 0) -> bool:
        """Keep the job."""
        if job not in self.sent:
            self.sent.append(job)
        return True

    def send_all(self, jobs: Sequence[Job]) -> bool:
        """Keep the jobs."""
        return sum(self.send(job) for job in jobs) == len(jobs)

    def taken(self, job: Job) -> None:
        """Nothing to forget: `send` looks at what waits."""

    def reachable(self) -> bool:
        """Always: it is here."""
        return True
