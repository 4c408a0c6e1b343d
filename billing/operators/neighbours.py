"""Two installations that use the same keys in Redis: each notices the other, and says how to part them (OPS-125).

They take each other's messages and wait for each other's locks. The rows decide, so nothing becomes wrong, and much is
late. Webs and workers note their ledger in Redis every 10 s. Whoever finds another one there says so.
"""

import hashlib
from pathlib import Path
from typing import Any

import redis
import sqlalchemy as sa
import structlog
from redis.exceptions import RedisError

from billing.database import Database
from billing.errors import LedgerUnavailable

log = structlog.get_logger(__name__)

THERE_SECONDS = 35  # since it was last noted; as long as a process counts as there
SHARED = (
    "Processes of another ledger (DATABASE_URL) use the same keys in Redis (REDIS_URL), and take messages from these. "
    "Set REDIS_KEY_PREFIX for one of the two installations."
)
MAY_CALL = sa.text("SELECT has_function_privilege('pg_control_system()', 'EXECUTE')")
SYSTEM = sa.text("SELECT system_identifier FROM pg_control_system()")
DATABASE = sa.text("SELECT oid FROM pg_database WHERE datname = current_database()")


class Neighbours:
    """The ledgers whose processes use these keys, each by a mark."""

    def __init__(self, client: "redis.Redis", database: Database, *, prefix: str) -> None:
        self._client, self._database, self._key = client, database, f"{prefix}ledgers"
        self._told = False

    def note(self) -> None:
        """Note our ledger, and tell the operator once if there is another one. Never raises."""
        try:
            mark, now = mark_of(self._database), self._now()
            with self._client.pipeline() as pipe:
                pipe.zadd(self._key, {mark: now})
                pipe.zremrangebyscore(self._key, "-inf", now - THERE_SECONDS)
                pipe.expire(self._key, THERE_SECONDS)
                pipe.execute()
            found = self.are_there()
        except (RedisError, LedgerUnavailable, OSError):
            return  # which is said elsewhere
        if found and not self._told:
            log.warning("redis.shared", sentence=SHARED)
        self._told = found

    def are_there(self) -> bool:
        """Whether another ledger was noted a moment ago. Raises RedisError and LedgerUnavailable."""
        there: list[Any] = self._client.zrangebyscore(self._key, self._now() - THERE_SECONDS, "+inf")
        return any(mark != mark_of(self._database).encode() for mark in there)

    def _now(self) -> int:
        """By the server's clock: those of hosts differ."""
        return int(self._client.time()[0])


def mark_of(database: Database) -> str:
    """What tells this ledger from others, hashed: its number at its server, or its file. Raises LedgerUnavailable."""
    if database.is_sqlite:
        told = Path(str(database.url.database)).stat()
        named = f"{told.st_dev}:{told.st_ino}"
    else:
        with database.read() as connection:
            system = connection.scalar(SYSTEM) if connection.scalar(MAY_CALL) else ""
            named = f"{system}:{connection.scalar(DATABASE)}"
    return hashlib.sha256(named.encode()).hexdigest()[:16]
