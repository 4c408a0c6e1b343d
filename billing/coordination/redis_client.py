"""Connections to Redis or Valkey that give up quickly: no result depends on Redis, only the time that it takes."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing.errors import ConfigurationError

# By default redis-py 8 tries four times over several seconds: too long for a request. One retry at once reaches a
# server that was restarted. 1 s without an answer is a hung server (a slow one takes milliseconds), and a retry there
# would double the time.
ANSWER_SECONDS = 1.0


def connect_redis(url: str, *, answer_seconds: float = ANSWER_SECONDS, blocks_seconds: float = 0) -> "redis.Redis":
    """A client with a connection pool, which connects at first use. Raises ConfigurationError.

    `answer_seconds`: after which a server is given up; `blocks_seconds`: how long its calls may block on purpose, such
    as a blocking pop.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=answer_seconds,
            socket_timeout=answer_seconds + blocks_seconds,
            # Else each new connection reads redis-py's version from its files, 0.9 of 1.2 ms with the pool's lock held.
            driver_info=None,
            health_check_interval=5,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
    except ValueError:
        raise ConfigurationError(
            "REDIS_URL is no address of one Redis (a cluster will not do). Set REDIS_URL like redis://host:6379/0."
        ) from None
