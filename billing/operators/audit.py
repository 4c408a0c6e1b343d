"""The audit log: every write by a person is a row with who, what, why, when, and what came of it.

The row is written before the work begins. One without an outcome is a command that runs, or that was killed.
"""

import getpass
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.errors import LedgerUnavailable
from billing.models import audit

Row = dict[str, Any]


@contextmanager
def audited(
    command: str, *, target: str | None, reason: str | None, database: Database, clock: Clock, dry_run: bool = False
) -> Iterator[Callable[[str], None]]:
    """Note the command around the block. The function that is yielded says what came of it; else that is "done".

    An exception is the outcome too, and goes on. A dry run is not noted. Raises LedgerUnavailable where the row cannot
    be written: then nothing was done.
    """
    said = ["done"]
    if dry_run:
        yield said.append
        return
    with database.write() as connection:
        values = {"at": clock.now(), "who": _who(), "command": command, "target": target, "reason": reason}
        row_id = connection.scalar(sa.insert(audit).values(values).returning(audit.c.id))
    try:
        yield said.append
    except BaseException as error:
        said.append(f"failed: {getattr(error, 'code', None) or type(error).__name__}")
        raise
    finally:
        own = sa.update(audit).where(audit.c.id == row_id)
        with suppress(LedgerUnavailable), database.write() as connection:
            connection.execute(own.values(outcome=said[-1], ended_at=clock.now()))


def list_audit(*, database: Database, since: datetime | None = None, limit: int) -> list[Row]:
    """The newest rows, as plain dicts."""
    names = ("at", "who", "command", "target", "reason", "outcome")
    query = sa.select(*(audit.c[name] for name in names)).order_by(audit.c.id.desc()).limit(limit)
    if since:
        query = query.where(audit.c.at >= since)
    with database.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def _who() -> str:
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user that no passwd file names
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:255]
