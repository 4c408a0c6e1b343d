"""The servers and folders that the settings name: ledger, Redis, broker, counts."""

import os
from collections.abc import Iterator
from contextlib import closing

from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from billing.coordination.queue import create_producer
from billing.database import Database
from billing.database.migrations.compatibility import Fit
from billing.database.suitable import require_suitable, room
from billing.doctor.finding import Finding, Verdict, fine, guarded, warning, wrong
from billing.doctor.redis import examine_redis, examine_server, explain
from billing.errors import LedgerMisconfigured, LedgerUnavailable
from billing.operators import causes
from billing.operators.readiness import free_megabytes, try_to_write
from billing.process.server_url import OtherBroker, read_broker
from billing.process.settings import Settings
from billing.rules.words import in_number

BROKER_SECONDS = 3
PROCESSES = 4  # of the compose file: two of the web, two workers
# A million events take some 2 GB, and SQLite needs as much again while it tidies up.
NARROW_MEGABYTES = 2048


def require_given(settings: Settings) -> None:
    """Check the servers that the settings name. Raises ConfigurationError or TransientError for the first bad one."""
    given = settings.model_fields_set
    if "database_url" in given:
        with closing(open_ledger(settings)) as database:
            require_suitable(database)
    if "redis_url" in given:
        list(examine_redis(settings))
    if "celery_broker_url" in given:
        list(examine_broker(settings))


def examine_servers(settings: Settings) -> Iterator[Finding]:
    """Each of them in turn. Raises nothing."""
    yield from guarded("ledger", lambda: examine_ledger(settings))
    yield from guarded("redis", lambda: examine_redis(settings))
    if settings.broker_url != settings.redis_url:
        yield from guarded("broker", lambda: examine_broker(settings))
    yield from guarded("metrics", lambda: examine_metrics(settings))


def examine_ledger(settings: Settings) -> Iterator[Finding]:
    """Whether the database answers, is suitable, has this version's tables, takes writes, and has room."""
    try:
        with closing(open_ledger(settings)) as database:
            kind = "SQLite" if database.is_sqlite else "PostgreSQL"
            require_suitable(database)
            if not database.is_sqlite:
                yield _connections(database)
            found = try_to_write(database)
    except LedgerUnavailable as error:
        verdict = Verdict.WRONG if isinstance(error, LedgerMisconfigured) else Verdict.UNAVAILABLE
        yield Finding("ledger", verdict, f"{error.for_operator} Mend that, or set another DATABASE_URL.")
        yield from _room(open_ledger(settings))
        return
    if found.fit is Fit.CURRENT:
        yield fine("ledger", f"{kind} answers, has this version's tables, and takes writes.")
    elif found.fit.works:
        yield fine("ledger", f"{kind} answers and takes writes; its tables are {found.fit}.")
    else:
        yield wrong("ledger", found.sentence)
    yield from _room(database)


def _room(database: Database) -> Iterator[Finding]:
    free = free_megabytes(database)
    if free is None:
        return
    where = f"{free:,} MB are free where {database.url.database} is (DATABASE_URL)"
    if free < causes.FULL_MEGABYTES:
        yield wrong("ledger", f"Only {where}: writing fails soon. Make room.")
    elif free < NARROW_MEGABYTES:
        yield warning("ledger", f"{where}. Make room, or lower RETENTION_DAYS.")


def _connections(database: Database) -> Finding:
    """Whether the processes of the compose file fit in; what each may have is added up."""
    with database.read() as connection:
        found, each = room(connection), database.pool_size
    if found.pooled:
        return fine("ledger", f"A pooler is in between, and gives one process its {in_number(each, 'connection')}.")
    if found.connections >= PROCESSES * each:
        fitting = found.connections // each
        room_for = f"{in_number(found.connections, 'connection')}: {in_number(fitting, 'process', 'processes')}"
        sentence = f"Room for {room_for} of {each} (docs/connections.md)."
        return fine("ledger", sentence)
    return wrong(
        "ledger",
        f"{PROCESSES} processes have up to {in_number(PROCESSES * each, 'connection')}, and there is room for"
        f" {found.connections}. "
        f"Set DATABASE_POOL_SIZE={max(1, found.connections // PROCESSES)}, or raise max_connections.",
    )


def open_ledger(settings: Settings) -> Database:
    """The ledger, as the settings name it. Raises ConfigurationError."""
    return Database(
        settings.database_url, pool_size=settings.database_pool_size, prepare_statements=settings.database_prepare
    )


def examine_metrics(settings: Settings) -> Iterator[Finding]:
    """Whether processes can write their counts."""
    folder = settings.metrics_dir
    if folder is None:
        return
    nearest = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())  # it is made
    if nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK):
        yield fine("metrics", f"METRICS_DIR {folder} can be written.")
    else:
        sentence = f"METRICS_DIR {folder} cannot be written: each process shows its own counts. Let us write there."
        yield warning("metrics", sentence)


def examine_broker(settings: Settings) -> Iterator[Finding]:
    """Whether the queue's broker answers; of a Redis the same as of REDIS_URL."""
    if not isinstance(read_broker(settings.broker_url), OtherBroker):
        prefix = settings.redis_key_prefix
        yield from examine_server(settings.broker_url, "broker", "CELERY_BROKER_URL", prefix=prefix)
        return
    try:
        with create_producer(settings).connection(connect_timeout=BROKER_SECONDS) as connection:
            connection.ensure_connection(max_retries=1, timeout=BROKER_SECONDS)
    except (OperationalError, RedisError, OSError) as error:
        raise explain(error.__cause__ or error, "CELERY_BROKER_URL") from None  # type: ignore[arg-type]  # an Exception
    yield fine("broker", "Answers.")
