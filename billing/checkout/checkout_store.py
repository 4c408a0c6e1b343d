"""The rows of checkouts: answered, superseded, refused and failed by a worker. `view` reads them as buyers see them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.checkout import lane_store
from billing.checkout.rules import Checkout, Lane
from billing.models import CheckoutStatus, attempts, checkouts

_WAITS = sa.select(
    sa.exists().where(checkouts.c.lane_id == sa.bindparam("lane_id"), checkouts.c.status == CheckoutStatus.PENDING)
)

_LAST = (
    sa.select(checkouts.c.body_hash)
    .where(checkouts.c.lane_id == sa.bindparam("lane_id"))
    .order_by(checkouts.c.number.desc())
    .limit(1)
)


def has_waiting(connection: sa.Connection, lane_id: int) -> bool:
    """Whether any checkout of the lane is pending."""
    return bool(connection.scalar(_WAITS, {"lane_id": lane_id}))


def differs_from_last(connection: sa.Connection, lane_id: int, body_hash: str) -> bool:
    """Whether the newest checkout of the lane has another body. The caller has numbered its own: nobody is between."""
    last = connection.scalar(_LAST, {"lane_id": lane_id})
    return last is not None and last != body_hash


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
NO_BODY = sa.literal({}, checkouts.c.request.type)
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
        # Its fingerprint is that of the one that the session was made for, which has the body.
        request=sa.case((checkouts.c.id != _MADE_FOR, NO_BODY), else_=checkouts.c.request),
        answered_at=sa.bindparam("at"),
    )
    .returning(checkouts.c.id)
)


def answer(connection: sa.Connection, lane: Lane, newest: Checkout, *, url: str, now: datetime) -> list[str]:
    """Step 8: give the lane's session to `newest` and its older equals; the ids, none when the lane moved on.

    Newer equals get a pass of their own. Equal bodies are kept once (CHK-39).
    """
    if not lane_store.raise_version(connection, lane):
        return []
    connection.execute(_SHOW, {"own": lane.nonce, "page": url})
    parameters = {"of_lane": lane.id, "own": lane.nonce, "up_to": newest.number, "equal_to": newest.fingerprint}
    return list(connection.scalars(_ANSWER, {**parameters, "at": now}))


_earlier = checkouts.alias("earlier")
_BEFORE = (  # the body of the checkout before this one
    sa.select(_earlier.c.body_hash)
    .where(_earlier.c.lane_id == checkouts.c.lane_id, _earlier.c.number < checkouts.c.number)
    .order_by(_earlier.c.number.desc())
    .limit(1)
    .scalar_subquery()
)


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
    # Whoever asks the same again and again is refused again and again: the first of them keeps the body (CHK-39).
    request = sa.case((checkouts.c.body_hash == _BEFORE, NO_BODY), else_=checkouts.c.request)
    statement = sa.update(checkouts).where(*where).values(status=status, error=error, answered_at=now, request=request)
    return list(connection.scalars(statement.returning(checkouts.c.id)))


def read_attempt_of(connection: sa.Connection, checkout_id: str) -> tuple[int, str | None]:
    """The lane of a checkout, and the attempt that it was answered with."""
    query = sa.select(checkouts.c.lane_id, checkouts.c.nonce).where(checkouts.c.id == checkout_id)
    row = connection.execute(query).one()
    return row.lane_id, row.nonce


@dataclass(frozen=True, slots=True)
class Waiting:
    """Checkouts that no worker answered yet, and the age of the oldest; 0 where there is none."""

    count: int
    oldest_seconds: float


def waiting(connection: sa.Connection, *, now: datetime) -> Waiting:
    """Count the pending checkouts of all lanes."""
    count, oldest = connection.execute(
        sa.select(sa.func.count(), sa.func.min(checkouts.c.arrived_at)).where(
            checkouts.c.status == CheckoutStatus.PENDING
        )
    ).one()
    return Waiting(count, max(0.0, (now - oldest).total_seconds()) if oldest else 0.0)
