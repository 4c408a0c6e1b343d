"""The rows of checkouts: how they are answered, superseded, refused and failed."""

from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.checkout import lane_store
from billing.checkout.rules import Checkout, Lane
from billing.models import CheckoutStatus, attempts, checkouts

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
