"""SQL of customers that were taken over and have to be fetched: a time on the user's row, written with the take-over.

A worker takes the row by moving that time on, as far as a lease lasts. The sync that writes the customer's projection
clears it in the same transaction (SUB-70), so a worker that dies in between loses nothing.
"""

import dataclasses
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.models import customers
from billing.rules import lease
from billing.rules.backoff import Backoff

# The waits after failures. Stripe that does not answer for an hour is asked once an hour.
SYNCS = Backoff(timedelta(seconds=1), timedelta(hours=1))
NOT_DUE: dict[str, Any] = {"sync_due_at": None, "sync_asked_at": None, "sync_error": None}
_WAITS = (customers.c.sync_due_at.is_not(None), customers.c.customer_id.is_not(None))


@dataclass(frozen=True, slots=True)
class DueSync:
    """A customer to fetch, held until `sync_due_at`."""

    user_id: str
    customer_id: str
    sync_due_at: datetime
    sync_failures: int


def any_due(connection: sa.Connection, *, now: datetime) -> bool:
    """Whether a customer waits to be fetched whose time has come."""
    due = sa.select(customers.c.user_id).where(*_WAITS, SYNCS.is_due(customers.c.sync_due_at, now=now))
    return connection.execute(due.limit(1)).first() is not None


def claim(connection: sa.Connection, *, now: datetime) -> DueSync | None:
    """Take the customer that came last and is due, for as long as a lease lasts; None where none is due.

    The last one first: who is taken over as they come back does not wait for an import of thousands.
    """
    columns = [customers.c[name] for name in DueSync.__slots__]
    due = sa.select(*columns).where(*_WAITS, SYNCS.is_due(customers.c.sync_due_at, now=now))
    newest = due.order_by(customers.c.sync_due_at.desc(), customers.c.user_id).limit(1)
    until = lease.ends_at(now)
    while (row := connection.execute(newest).first()) is not None:
        found = DueSync(**row._mapping)
        if _move(connection, found, sync_due_at=until):
            return dataclasses.replace(found, sync_due_at=until)
    return None


def ask(connection: sa.Connection, user_id: str, *, now: datetime) -> None:
    """A person wants this user's customer fetched now. What waits for its first fetch stays a first one (SUB-71)."""
    first = sa.and_(customers.c.sync_due_at.is_not(None), customers.c.sync_asked_at.is_(None))
    asked = sa.case((first, sa.null()), else_=sa.literal(now, type_=customers.c.sync_asked_at.type))
    own = sa.update(customers).where(customers.c.user_id == user_id)
    connection.execute(own.values(sync_due_at=now, sync_asked_at=asked, sync_failures=0, sync_error=None))


def read_wish(connection: sa.Connection, user_id: str) -> tuple[bool, str | None]:
    """Whether a user's customer still waits to be fetched, and why the last try failed."""
    query = sa.select(customers.c.sync_due_at, customers.c.sync_error).where(customers.c.user_id == user_id)
    row = connection.execute(query).first()
    return (False, None) if row is None else (row.sync_due_at is not None, row.sync_error)


def put_off(connection: sa.Connection, due: DueSync, *, until: datetime, failures: int, error: str) -> None:
    """Note when a customer is fetched again and why, unless it was fetched meanwhile."""
    _move(connection, due, sync_due_at=until, sync_failures=due.sync_failures + failures, sync_error=error)


def note_synced(connection: sa.Connection, customer_id: str) -> None:
    """Note that the customer was fetched since it was taken over."""
    own = sa.update(customers).where(customers.c.customer_id == customer_id)
    connection.execute(own.values(NOT_DUE))  # a later take-over begins to count anew


def _move(connection: sa.Connection, due: DueSync, **values: Any) -> bool:
    same = sa.update(customers).where(
        customers.c.user_id == due.user_id,
        customers.c.customer_id == due.customer_id,
        customers.c.sync_due_at == due.sync_due_at,
    )
    return connection.execute(same.values(**values)).rowcount == 1
