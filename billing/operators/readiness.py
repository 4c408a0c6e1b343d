"""Readiness of the ledger: whether it answers, has its tables, and takes writes.

A standby answers every read for ever. So a row is written, in a transaction that is rolled back.
"""

import shutil
import uuid
from datetime import UTC, datetime
from pathlib import Path

import structlog

from billing.database import Database
from billing.database.migrations.compatibility import Found, look_up
from billing.errors import LedgerMisconfigured, LedgerUnavailable
from billing.models import customers

log = structlog.get_logger(__name__)

SECONDS = 1.5


def examine_ledger(database: Database) -> dict[str, str]:
    """`database` and `migrations`, each `ok` or what is wrong; within 1.5 s once there is a connection."""
    try:
        fit = try_to_write(database).fit
    except LedgerUnavailable as error:
        log.warning("ledger.not_ready", reason=error.for_operator)
        wrong = isinstance(error, LedgerMisconfigured)
        word = "not set up correctly: see `onelane doctor`" if wrong else "not reachable"
        return {"database": word, "migrations": "not known"}
    return {"database": "ok", "migrations": "ok" if fit.works else fit.value}


def free_megabytes(database: Database) -> int | None:
    """The room that is left for an SQLite file; None for a server, whose disk is not this machine's."""
    folder = Path(database.url.database or "").absolute().parent
    if not (database.is_sqlite and database.url.database and folder.is_dir()):
        return None
    return shutil.disk_usage(folder).free // 2**20


def try_to_write(database: Database) -> Found:
    """How this version and the ledger fit together; where it works, a row is written and rolled back.

    Raises LedgerUnavailable.
    """
    with database.write() as connection:
        database.allow(connection, SECONDS)
        found = look_up(connection)
        if found.fit.works:
            now = datetime.now(UTC)
            row = {"user_id": f"readiness {uuid.uuid4()}", "idempotency_key": "", "parameters": {}, "created_at": now}
            connection.execute(customers.insert().values(row))
        connection.rollback()
    return found
