"""The rows of checkouts: how they arrive (step 0), and how they are answered, superseded, refused and failed.

Numbering is an UPDATE of the lane row: of two checkouts that arrive at once, the second waits and sees the first.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.checkout import lane_store
from billing.checkout.rules import Checkout, Lane
from billing.database import insert_new
from billing.errors import UserErased
from billing.models import CheckoutStatus, attempts, checkouts, lanes

_NEXT_NUMBER = (
    sa.update(lanes)
    .where(lanes.c.id == sa.bindparam("lane_id"), lanes.c.erased.is_(False))
    .values(last_number=lanes.c.last_number + 1)
    .returning(lanes.c.last_number)
)


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


# --- steps 2 to 11


_WAITS = sa.select(
    sa.exists().where(checkouts.c.lane_id == sa.bindparam("lane_id"), checkouts.c.status == CheckoutStatus.PENDING)
)


def has_waiting(connection: sa.Connection, lane_id: int) -> bool:
    """Whether any checkout of the lane is pending."""
    return bool(connection.scalar(_WAITS, {"lane_id": lane_id}))


def supersede_older(connection: sa.Connection, newest: Checkout) -> list[str]:
    """Older pending checkouts with other parameters will not be served any more; their ids."""
    statement = (
        sa.update(checkouts)
        .where(
            checkouts.c.lane_id == newest.lane_id,
            checkouts.c.status == CheckoutStatus.PENDING,
            checkouts.c.number < newest.number,
            checkouts.c.fingerprint != newest.fingerprint,
        )
        .values(status=CheckoutStatus.SUPERSEDED)
        .returning(checkouts.c.id)
    )
    return list(connection.scalars(statement))


_SHOW = sa.update(attempts).where(attempts.c.nonce == sa.bindparam("own")).values(url=sa.bindparam("page"))
_MADE_FOR = sa.select(attempts.c.checkout_id).where(attempts.c.nonce == sa.bindparam("own")).scalar_subquery()
_ANSWER = (
    sa.update(checkouts)
    .where(
        checkouts.c.lane_id == sa.bindparam("of_lane"),
        checkouts.c.status == CheckoutStatus.PENDING,
        checkouts.c.number <= sa.bindparam("up_to"),
        checkouts.c.fingerprint == sa.bindparam("equal_to"),
    )
    .values(
        status=CheckoutStatus.OPEN,
        nonce=sa.bindparam("own"),
        reused=checkouts.c.id != _MADE_FOR,
        answered_at=sa.bindparam("at"),
    )
    .returning(checkouts.c.id)
)


def answer(connection: sa.Connection, lane: Lane, newest: Checkout, *, url: str, now: datetime) -> list[str]:
    """Step 8: give the lane's session to `newest` and its older equals; the ids, none when the lane moved on.

    Newer equals get a pass of their own.
    """
    if not lane_store.raise_version(connection, lane):
        return []
    connection.execute(_SHOW, {"own": lane.nonce, "page": url})
    whose = {"of_lane": lane.id, "own": lane.nonce, "up_to": newest.number, "equal_to": newest.fingerprint}
    return list(connection.scalars(_ANSWER, {**whose, "at": now}))


def turn_down(
    connection: sa.Connection,
    lane_id: int,
    *,
    status: CheckoutStatus,
    error: dict[str, Any],
    now: datetime,
    fingerprint: str | None = None,
    up_to: int | None = None,
) -> list[str]:
    """Refuse or fail pending checkouts: those equal to `fingerprint`, or those numbered up to `up_to`; the ids."""
    where = [checkouts.c.lane_id == lane_id, checkouts.c.status == CheckoutStatus.PENDING]
    if fingerprint is not None:
        where.append(checkouts.c.fingerprint == fingerprint)
    if up_to is not None:
        where.append(checkouts.c.number <= up_to)
    statement = sa.update(checkouts).where(*where).values(status=status, error=error, answered_at=now)
    return list(connection.scalars(statement.returning(checkouts.c.id)))
