"""What goes of checkouts that ended long ago: their bodies, their attempts' parameters, the addresses of their pages.

The rows stay. By them it is known who has bought and gets no second trial, and which customers a user had. A checkout
whose session was paid keeps its body, since its metadata are shown with the subscription. So does one whose attempt has
no known end.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import sqlalchemy as sa

from billing.checkout.checkout_store import NO_BODY
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, checkouts, lanes

BEGINNING = datetime(2000, 1, 1, tzinfo=UTC)
_ENDED = (CheckoutStatus.OPEN, CheckoutStatus.SUPERSEDED, CheckoutStatus.REFUSED, CheckoutStatus.FAILED)  # as stored
_MADE_FOR = sa.and_(attempts.c.checkout_id == checkouts.c.id, attempts.c.lane_id == checkouts.c.lane_id)
_IS_NEEDED = sa.exists().where(
    _MADE_FOR, sa.or_(attempts.c.outcome.is_(None), attempts.c.outcome == AttemptOutcome.COMPLETED)
)
_IS_TO_BE_SENT = sa.and_(lanes.c.state == LaneState.CREATING, lanes.c.nonce == attempts.c.nonce)
_FORGET = (
    sa.update(attempts)
    .where(attempts.c.nonce == sa.bindparam("own"))
    .values(url=None, parameters=sa.bindparam("kept", type_=attempts.c.parameters.type))
)


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many checkouts lost their body, and the arrival up to which all are pruned."""

    checkouts: int
    until: datetime


def prune_some(connection: sa.Connection, *, since: datetime, before: datetime, limit: int) -> Pruned:
    """Prune the oldest checkouts that arrived from `since` on and before `before`: about `limit` of each status."""
    until = min([before, *(_arrival_after(connection, status, since, limit) or before for status in _ENDED)])
    until = max(until, since + datetime.resolution)  # of so many at one moment, all
    some = sa.and_(checkouts.c.status.in_(_ENDED), checkouts.c.arrived_at >= since, checkouts.c.arrived_at < until)
    made = sa.select(attempts.c.nonce, attempts.c.parameters).join(checkouts, _MADE_FOR)
    made = made.join(lanes, lanes.c.id == attempts.c.lane_id).where(some, ~_IS_TO_BE_SENT)
    forgotten = [
        {"own": row.nonce, "kept": {name: value for name, value in row.parameters.items() if name == "customer"}}
        for row in connection.execute(made)
    ]
    if forgotten:
        connection.execute(_FORGET, forgotten)
    emptied = sa.update(checkouts).where(some, checkouts.c.request != NO_BODY, ~_IS_NEEDED)
    return Pruned(connection.execute(emptied.values(request=NO_BODY)).rowcount, until)


def _arrival_after(connection: sa.Connection, status: CheckoutStatus, since: datetime, limit: int) -> datetime | None:
    """When the checkout behind the next `limit` of this status arrived: by the index of both."""
    following = sa.select(checkouts.c.arrived_at).where(checkouts.c.status == status, checkouts.c.arrived_at >= since)
    return connection.scalar(following.order_by(checkouts.c.arrived_at).offset(limit).limit(1))
