"""A client's Idempotency-Key: for 24 h, the same key and body give the same row, another body is refused.

A table that takes keys has the columns id, user_id, idempotency_key, body_hash and arrived_at. The caller has numbered
the request in its lane, which holds the lane's row: so it sees every earlier request of this user.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.errors import IdempotencyMismatch, LedgerUnavailable

KEY_LIFETIME = timedelta(hours=24)


def find_earlier(connection: sa.Connection, table: sa.Table, values: Mapping[str, Any]) -> str | None:
    """The id of the row that this user's key made in the last 24 h. Raises IdempotencyMismatch."""
    key = values["idempotency_key"]
    if key is None:
        return None
    used = (table.c.user_id == values["user_id"], table.c.idempotency_key == key)
    found = connection.execute(sa.select(table.c.id, table.c.body_hash, table.c.arrived_at).where(*used)).first()
    if found is None:
        return None
    if found.arrived_at < values["arrived_at"] - KEY_LIFETIME:
        connection.execute(sa.update(table).where(table.c.id == found.id).values(idempotency_key=None))
        return None
    if found.body_hash != values["body_hash"]:
        raise IdempotencyMismatch
    return str(found.id)


def insert(connection: sa.Connection, table: sa.Table, values: dict[str, Any]) -> None:
    """Insert a request that has no earlier one. Raises LedgerUnavailable where its key was used meanwhile."""
    if not insert_new(connection, table, values):
        raise LedgerUnavailable("This Idempotency-Key is just being used by another request. Try again.")


def forget_keys(connection: sa.Connection, table: sa.Table, *, now: datetime) -> int:
    """Free the keys after 24 h; how many."""
    old = sa.update(table).where(table.c.idempotency_key.is_not(None), table.c.arrived_at < now - KEY_LIFETIME)
    return connection.execute(old.values(idempotency_key=None)).rowcount
