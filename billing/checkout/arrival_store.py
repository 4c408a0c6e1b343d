"""The ledger of arrivals: step 0 of the checkout protocol, a request that is numbered and kept; and its key.

Numbering is an UPDATE of the lane row: whoever arrives waits for who arrives at the same moment, and sees them.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.database import insert_new
from billing.errors import UserErased
from billing.models import checkouts, lanes

_FIND_LANE = sa.select(lanes.c.id).where(
    lanes.c.user_id == sa.bindparam("user_id"), lanes.c.product == sa.bindparam("product")
)
_NEXT_NUMBER = (
    sa.update(lanes)
    .where(lanes.c.id == sa.bindparam("lane_id"), lanes.c.erased.is_(False))
    .values(last_number=lanes.c.last_number + 1)
    .returning(lanes.c.last_number)
)


def find_lane(connection: sa.Connection, *, user_id: str, product: str) -> int | None:
    """The id of the user's lane, when it is there."""
    return connection.scalar(_FIND_LANE, {"user_id": user_id, "product": product})


def open_lane(connection: sa.Connection, *, user_id: str, product: str) -> int:
    """The id of the user's lane, made when it is not there yet."""
    insert_new(connection, lanes, {"user_id": user_id, "product": product})
    lane_id = find_lane(connection, user_id=user_id, product=product)
    assert lane_id is not None, "it was just made, or was there"
    return lane_id


def next_number(connection: sa.Connection, lane_id: int) -> int:
    """Number an arriving checkout. The version stays: an arrival must not void a worker's compare-and-set.

    Raises UserErased: whoever erases a user changes this row, so that each of the two sees what the other did.
    """
    number = connection.execute(_NEXT_NUMBER, {"lane_id": lane_id}).scalar_one_or_none()
    if number is None:
        raise UserErased
    return int(number)


def insert_checkout(connection: sa.Connection, values: dict[str, Any]) -> bool:
    """Insert a checkout; False when its user has used this Idempotency-Key already."""
    return insert_new(connection, checkouts, values)


@dataclass(frozen=True, slots=True)
class KeyUse:
    """The checkout that an Idempotency-Key made."""

    id: str
    body_hash: str
    arrived_at: datetime


def find_by_key(connection: sa.Connection, user_id: str, key: str) -> KeyUse | None:
    """What this user's Idempotency-Key was used for."""
    columns = [checkouts.c[name] for name in KeyUse.__slots__]
    used = sa.select(*columns).where(checkouts.c.user_id == user_id, checkouts.c.idempotency_key == key)
    row = connection.execute(used).first()
    return None if row is None else KeyUse(**row._mapping)


def forget_key(connection: sa.Connection, checkout_id: str) -> None:
    """Free one Idempotency-Key."""
    connection.execute(sa.update(checkouts).where(checkouts.c.id == checkout_id).values(idempotency_key=None))


def forget_keys(connection: sa.Connection, *, now: datetime) -> int:
    """Free the clients' Idempotency-Keys after 24 h; how many."""
    old = sa.update(checkouts).where(
        checkouts.c.idempotency_key.is_not(None), checkouts.c.arrived_at < now - timedelta(hours=24)
    )
    return connection.execute(old.values(idempotency_key=None)).rowcount
