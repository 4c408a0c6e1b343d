"""Our connections to Redis or Valkey: quick to give up, since nothing of ours depends on them (W4)."""

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from billing.errors import ConfigurationError

# redis-py 8 by itself tries four times over several seconds: a request must not hang for a wake-up. One more try at
# once finds a server that was restarted; 1 s of silence is a hung server (a slow one takes milliseconds), and asking
# that one again would only double the time.
CONNECT_SECONDS, ANSWER_SECONDS = 1.0, 1.0


def connect_redis(url: str, *, blocks_seconds: float = 0) -> "redis.Redis":
    """A client with a connection pool; connects at first use. Its calls may block for so long on purpose.

    Raises ConfigurationError.
    """
    try:
        return redis.Redis.from_url(
            url,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_timeout=ANSWER_SECONDS + blocks_seconds,
            health_check_interval=5,
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
    except ValueError:
        raise ConfigurationError(
            "REDIS_URL is no address of one Redis (a cluster will not do). Set REDIS_URL like redis://host:6379/0."
        ) from None
