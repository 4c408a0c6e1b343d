"""The servers that the settings name: ledger, Redis, broker."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import redis
from kombu.exceptions import OperationalError
from redis.exceptions import AuthenticationError, RedisError

from billing.coordination.queue import create_producer
from billing.database import Database
from billing.database.migrations.upgrade import is_current
from billing.doctor.finding import Finding, fine, warning, wrong
from billing.errors import ConfigurationError, TransientError
from billing.process.settings import Settings

BROKER_SECONDS = 3


def require_given(settings: Settings) -> None:
    """Check the servers that the settings name. Raises ConfigurationError or TransientError for the first bad one."""
    given = settings.model_fields_set
    if "database_url" in given:
        try:
            with closing(Database(settings.database_url)) as database, database.read():
                pass
        except TransientError:
            raise TransientError("DATABASE_URL: the database does not answer. Start it, or set another.") from None
    if "redis_url" in given:
        list(examine_redis(settings.redis_url))
    if "celery_broker_url" in given:
        list(examine_broker(settings))


def examine_ledger(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers and has this version's tables."""
    with closing(Database(settings.database_url)) as database:
        kind = "SQLite" if database.is_sqlite else "PostgreSQL"
        current = is_current(database)
    if current:
        yield fine("ledger", f"{kind} answers and has this version's tables.")
    else:
        yield wrong("ledger", f"{kind} lacks this version's tables. Run `onelane db upgrade`.")


def examine_redis(url: str) -> Iterator[Finding]:
    """Whether Redis answers, may be used, and keeps what it is given."""
    if "cluster" in urlsplit(url).scheme:
        raise ConfigurationError("REDIS_URL names a cluster, which Celery cannot use. Set it to one server.")
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=BROKER_SECONDS, socket_timeout=BROKER_SECONDS)
        about: dict[str, Any] = client.info()
    except AuthenticationError:
        raise ConfigurationError(
            "REDIS_URL: the server refuses the password. Set REDIS_URL with the right one."
        ) from None
    except (RedisError, OSError) as error:
        raise TransientError(f"REDIS_URL: the server does not answer ({type(error).__name__}).") from None
    except ValueError:
        raise ConfigurationError("REDIS_URL is no Redis address. Set it like redis://host:6379/0.") from None
    if int(about.get("cluster_enabled", 0)):
        raise ConfigurationError("REDIS_URL is a cluster, which Celery cannot use. Set it to one server.")
    if about.get("role") == "slave":
        raise ConfigurationError("REDIS_URL is a replica, which cannot be written. Set it to the primary.")
    yield fine("redis", f"Answers, version {about.get('valkey_version') or about.get('redis_version')}.")
    if (policy := about.get("maxmemory_policy", "noeviction")) != "noeviction":
        yield wrong("redis", f"maxmemory-policy is {policy}: it may drop messages. Set noeviction.")
    if not int(about.get("aof_enabled", 0)):
        yield warning("redis", "No append-only file: after a restart, work waits for the sweep.")


def examine_broker(settings: Settings) -> Iterator[Finding]:
    """Whether the queue's broker answers."""
    try:
        with create_producer(settings).connection(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except (OperationalError, OSError) as error:
        raise TransientError(f"CELERY_BROKER_URL: the broker does not answer ({type(error).__name__}).") from None
    yield fine("broker", "Answers.")
