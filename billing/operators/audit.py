"""The audit log: every write by a person is a row with who, what, why, when, and what came of it.

The row is written before the work begins. One without an outcome is a command that runs, or that was killed.
"""

import getpass
import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import sqlalchemy as sa

from billing.clock import Clock
from billing.customers.store import customers_named, users_named
from billing.database import Database
from billing.errors import LedgerUnavailable
from billing.models import audit, checkouts, events, incidents, outbox
from billing.operators.listing import Row, Wanted, first_of, rows_of

_SHOWN = [audit.c[name] for name in ("at", "who", "command", "target", "reason", "outcome")]


class Note:
    """A row of the audit log that is being written; called with what came of it, the last of which is kept."""

    def __init__(self) -> None:
        self.row_id, self.outcome = 0, "done"  # 0: a dry run, which has no row

    def __call__(self, outcome: str) -> None:
        self.outcome = outcome


@contextmanager
def audited(
    command: str,
    *,
    target: str | None,
    reason: str | None,
    database: Database,
    clock: Clock,
    who: str | None = None,
    dry_run: bool = False,
) -> Iterator[Note]:
    """Note the command around the block. The note that is yielded says what came of it; else that is "done".

    `who` is the user of this process, unless somebody else is named.

    An exception is the outcome too, and goes on. A dry run is not noted. Raises LedgerUnavailable where the row cannot
    be written: then nothing was done.
    """
    note = Note()
    if dry_run:
        yield note
        return
    with database.write() as connection:
        values = {
            "at": clock.now(),
            "who": (who or _who())[:255],
            "command": command,
            "target": target,
            "reason": reason,
        }
        note.row_id = int(connection.scalar(sa.insert(audit).values(values).returning(audit.c.id)) or 0)
    try:
        yield note
    except BaseException as error:
        note(f"failed: {getattr(error, 'code', None) or type(error).__name__}")
        raise
    finally:
        own = sa.update(audit).where(audit.c.id == note.row_id)
        with suppress(LedgerUnavailable), database.write() as connection:
            connection.execute(own.values(outcome=note.outcome, ended_at=clock.now()))


def note_migration(
    connection: sa.Connection, before: str | None, after: str, *, reason: str | None, clock: Clock
) -> None:
    """Note a migration by a person, in its own transaction: before it the ledger may have had no audit log."""
    now, tables = clock.now(), f"the tables of {before}" if before else "a ledger without tables"
    said = {
        "who": _who(),
        "command": "db upgrade",
        "target": tables,
        "reason": reason,
        "outcome": f"migrated to {after}",
    }
    connection.execute(sa.insert(audit).values(at=now, ended_at=now, **said))


def list_audit(wanted: Wanted, *, database: Database) -> list[Row]:
    """The newest rows, by when they were begun."""
    where = wanted.where(at=audit.c.at)
    with database.read() as connection:
        if whose := wanted.customer:
            users, ids = (connection.scalars(named(whose)).all() for named in (users_named, customers_named))
            where.append(_is_about(users, ids))
        return rows_of(connection, _newest(*where).limit(wanted.limit))


def read_audit(row_id: int, *, database: Database) -> Row | None:
    """One row; None where there is no such row."""
    with database.read() as connection:
        return first_of(connection, _newest(audit.c.id == row_id))


def list_audit_of(connection: sa.Connection, user_id: str, customer_ids: Sequence[str], *, limit: int) -> list[Row]:
    """The newest rows about this user.

    All of the log is read, which is as long as what people typed.
    """
    return rows_of(connection, _newest(_is_about([user_id], customer_ids)).limit(limit))


def _newest(*where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    return sa.select(*_SHOWN).where(*where).order_by(audit.c.id.desc())


def _is_about(user_ids: Sequence[str], customer_ids: Sequence[str]) -> sa.ColumnElement[bool]:
    """Their ids, a checkout, event, change or incident of theirs, or a filter that names them at its end."""
    ids = [*user_ids, *customer_ids]
    checkout = sa.select(checkouts.c.id).where(checkouts.c.user_id.in_(user_ids))
    event = sa.select(events.c.event_id).where(events.c.customer_id.in_(customer_ids))
    message = sa.select(outbox.c.message_id).where(outbox.c.customer_id.in_(customer_ids))
    named = sa.literal("incident ") + sa.cast(incidents.c.id, sa.String)  # `incident 7: keep sub_…`
    incident = sa.exists().where(
        incidents.c.customer_id.in_(customer_ids),
        sa.or_(audit.c.target == named, audit.c.target.startswith(named + ":")),
    )
    of_filters = (audit.c.target.endswith(f"customer {one}", autoescape=True) for one in ids)
    theirs = sa.union_all(checkout, event, message)
    return sa.or_(audit.c.target.in_(ids), audit.c.target.in_(theirs), incident, *of_filters)


def _who() -> str:
    try:
        name = getpass.getuser().encode("utf-8", "replace").decode()  # LOGNAME may be in any encoding
    except (OSError, KeyError):  # a container's user that no passwd file names
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:255]
