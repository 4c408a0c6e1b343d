"""The servers that the settings name: ledger, Redis, broker."""

from collections.abc import Iterator
from contextlib import closing

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from billing.coordination.queue import create_producer
from billing.database import Database
from billing.database.migrations.upgrade import is_current
from billing.doctor.finding import Finding, fine, wrong
from billing.doctor.redis import examine_redis, explain
from billing.errors import TransientError
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
        list(examine_redis(settings))
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


def examine_broker(settings: Settings) -> Iterator[Finding]:
    """Whether the queue's broker answers."""
    try:
        with create_producer(settings).connection(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except (OperationalError, RedisError, OSError) as error:
        raise explain(error.__cause__ or error, "CELERY_BROKER_URL") from None  # type: ignore[arg-type]  # an Exception
    yield fine("broker", "Answers.")
