"""The rows of lanes and attempts: the SQL of the checkout protocol, but for the checkouts' own rows.

Functions take a connection with an open transaction; the flow decides where it begins and ends. Each change of a lane
is one UPDATE that says what it expects, and reports whether it hit (LAN-2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.checkout.rules import BACKOFF, LOOK_BACK, Attempt, Checkout, Lane
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, checkouts, customers, lanes

_LANE = [lanes.c[name] for name in Lane.__slots__]
_ATTEMPT = [attempts.c[name] for name in Attempt.__slots__]
_CHECKOUT = [checkouts.c[name] for name in Checkout.__slots__]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A lane as one transaction read it: the row first, then its pending checkouts (LAN-3)."""

    lane: Lane
    customer_id: str | None
    waiting: Sequence[Checkout]  # pending, by number
    attempt: Attempt | None  # the lane's own, while it has a nonce
    recorded: Sequence[str]  # the lane's session, and those of the last 25 h that may still be open or were paid

    @property
    def newest(self) -> Checkout | None:
        """The only checkout that may supersede others and have a session made."""
        return self.waiting[-1] if self.waiting else None

    @property
    def supersedes(self) -> bool:
        """Whether an older one with other parameters is still pending: it will not be served any more."""
        return any(checkout.fingerprint != self.waiting[-1].fingerprint for checkout in self.waiting)


# --- reading


# Built once: to build a statement takes longer than to run it, and a buyer waits for these.
_OF_LANE = checkouts.c.lane_id == sa.bindparam("lane_id")
_PENDING = sa.and_(_OF_LANE, checkouts.c.status == CheckoutStatus.PENDING)
_WAITING = sa.select(*_CHECKOUT).where(_PENDING).order_by(checkouts.c.number)
_READ_LANE = sa.select(*_LANE).where(lanes.c.id == sa.bindparam("lane_id"))
_READ_WITH_ATTEMPT = (
    _READ_LANE.add_columns(customers.c.customer_id, *_ATTEMPT)
    .join(customers, customers.c.user_id == lanes.c.user_id)
    .outerjoin(attempts, attempts.c.nonce == lanes.c.nonce)
)
# An expired session stays expired: looked at again, a lane's hundredth checkout would cost a hundred calls.
_ENDED = attempts.c.outcome.in_([AttemptOutcome.EXPIRED, AttemptOutcome.SUPERSEDED])
_RECORDED = sa.select(attempts.c.session_id).where(
    attempts.c.lane_id == sa.bindparam("lane_id"),
    attempts.c.created_at > sa.bindparam("since"),
    attempts.c.session_id.is_not(None),
    sa.or_(attempts.c.outcome.is_(None), ~_ENDED),
)


def read_lane(connection: sa.Connection, lane_id: int) -> Lane | None:
    """One lane row."""
    row = connection.execute(_READ_LANE, {"lane_id": lane_id}).first()
    return None if row is None else _lane(row)


def read_snapshot(connection: sa.Connection, lane_id: int, *, now: datetime) -> Snapshot | None:
    """Read the lane row first, then its pending checkouts: in the other order an older one could win."""
    row = connection.execute(_READ_WITH_ATTEMPT, {"lane_id": lane_id}).first()
    if row is None:
        return None
    lane, customer_id, attempt = _lane(row[: len(_LANE)]), row[len(_LANE)], row[len(_LANE) + 1 :]
    waiting = [_checkout(row) for row in connection.execute(_WAITING, {"lane_id": lane_id})]
    recorded = connection.scalars(_RECORDED, {"lane_id": lane_id, "since": now - LOOK_BACK})
    return Snapshot(
        lane=lane,
        recorded=sorted({*recorded, *([lane.session_id] if lane.session_id else [])}),
        customer_id=customer_id,
        waiting=waiting,
        attempt=_attempt(attempt) if lane.nonce else None,
    )


def read_outcome(connection: sa.Connection, nonce: str) -> AttemptOutcome | None:
    """How an attempt's session ended; None while it has not, as far as was read."""
    found = connection.scalar(sa.select(attempts.c.outcome).where(attempts.c.nonce == nonce))
    return AttemptOutcome(found) if found else None


# --- steps 2 to 11: every change of a lane


def unchanged(lane: Lane) -> Sequence[sa.ColumnElement[bool]]:
    """What a compare-and-set expects of the row: a restored backup repeats the version, but no nonce."""
    return (
        lanes.c.state == lane.state,
        lanes.c.version == lane.version,
        lanes.c.nonce.is_not_distinct_from(lane.nonce),
    )


_MOVE = sa.update(lanes).values(version=lanes.c.version + 1)


def move(connection: sa.Connection, lane: Lane, state: LaneState, **values: Any) -> bool:
    """Compare-and-set the lane from what was read to `state`; whether it was still as read."""
    expected = _MOVE.where(lanes.c.id == lane.id, *unchanged(lane))
    return connection.execute(expected, {"state": state, **values}).rowcount == 1


def close(connection: sa.Connection, lane: Lane, outcome: AttemptOutcome) -> bool:
    """Move the lane to closed, note what became of its session, and forget the page's address."""
    if not move(connection, lane, LaneState.CLOSED, nonce=None, session_id=None):
        return False
    # Stripe's event may have come first and said `expired`; that we expired it says more.
    known = sa.or_(attempts.c.outcome.is_(None), attempts.c.outcome == AttemptOutcome.EXPIRED)
    ended = sa.update(attempts).where(attempts.c.nonce == lane.nonce, known)
    connection.execute(ended.values(outcome=outcome, url=None))
    return True


_FORGET = sa.update(attempts).where(attempts.c.nonce == sa.bindparam("own"))


def forget_parameters(connection: sa.Connection, attempt: Attempt) -> None:
    """Keep of an attempt's parameters only whose it was: its lane has left `creating`, and nothing is sent any more.

    Their metadata stand in the checkout that it was made for (LAN-61).
    """
    connection.execute(_FORGET, {"own": attempt.nonce, "parameters": {"customer": attempt.parameters["customer"]}})


_KEEP = sa.insert(attempts)
_NAME = sa.update(attempts).where(attempts.c.nonce == sa.bindparam("own")).values(session_id=sa.bindparam("made"))


def insert_attempt(connection: sa.Connection, attempt: Attempt) -> None:
    """Keep an attempt before it is sent."""
    connection.execute(_KEEP, {name: getattr(attempt, name) for name in Attempt.__slots__})


_DONE = (attempts.c.lane_id == sa.bindparam("lane_id"), attempts.c.outcome == AttemptOutcome.COMPLETED)
_HAS_BOUGHT = sa.select(sa.exists().where(*_DONE))
_BOUGHT = (
    sa.select(attempts.c.session_id, attempts.c.parameters)
    .where(*_DONE)
    .order_by(attempts.c.created_at.desc())
    .limit(20)
)


def has_bought(connection: sa.Connection, lane_id: int) -> bool:
    """Whether a session was completed in this lane, for whichever customer its user had then."""
    return bool(connection.scalar(_HAS_BOUGHT, {"lane_id": lane_id}))


def bought_as_another(connection: sa.Connection, lane_id: int, customer_id: str) -> list[str]:
    """The sessions that were completed in this lane for customers that its user had before; at most the newest 20."""
    rows = connection.execute(_BOUGHT, {"lane_id": lane_id})
    return [session_id for session_id, sent in rows if session_id and sent.get("customer") != customer_id]


def name_session(connection: sa.Connection, nonce: str, session_id: str) -> None:
    """Note which session an attempt made."""
    connection.execute(_NAME, {"own": nonce, "made": session_id})


def doubt(connection: sa.Connection, nonce: str, *, now: datetime) -> None:
    """Note when the attempt's session was first looked for and not found."""
    first = sa.update(attempts).where(attempts.c.nonce == nonce, attempts.c.doubted_at.is_(None))
    connection.execute(first.values(doubted_at=now))


_RAISE = (
    sa.update(lanes)
    .where(lanes.c.id == sa.bindparam("of_lane"), lanes.c.state == LaneState.OPEN, lanes.c.nonce == sa.bindparam("own"))
    .values(version=lanes.c.version + 1, failures=0, last_error=None, next_attempt_at=None)
)


def raise_version(connection: sa.Connection, lane: Lane) -> bool:
    """Compare-and-set an open lane by its nonce alone; a worker with an older view then loses its own."""
    return connection.execute(_RAISE, {"of_lane": lane.id, "own": lane.nonce}).rowcount == 1


def postpone(connection: sa.Connection, lane_id: int, *, code: str, until: datetime, counted: bool = True) -> None:
    """Note a transient failure, `counted` or not: no worker takes this lane before `until`."""
    connection.execute(
        sa.update(lanes)
        .where(lanes.c.id == lane_id)
        .values(failures=lanes.c.failures + int(counted), last_error=code, next_attempt_at=until)
    )


def clear_failures(connection: sa.Connection, lane_id: int) -> None:
    """Clear the lane's past failures."""
    own = sa.update(lanes).where(lanes.c.id == lane_id)
    connection.execute(own.values(failures=0, last_error=None, next_attempt_at=None))


def lanes_to_wake(connection: sa.Connection, *, now: datetime, limit: int) -> list[int]:
    """Lanes that the sweep has to wake: a checkout waits, or a creation or an expiry is unfinished."""
    waits = sa.select(checkouts.c.lane_id).where(checkouts.c.status == CheckoutStatus.PENDING)
    unfinished = sa.select(lanes.c.id).where(lanes.c.state.in_([LaneState.CREATING, LaneState.CLOSING]))
    due = BACKOFF.is_due(lanes.c.next_attempt_at, now=now)
    # A union of two index look-ups: an OR of them would read every lane.
    statement = sa.select(lanes.c.id).where(lanes.c.id.in_(sa.union(waits, unfinished)), due)
    return list(connection.scalars(statement.order_by(lanes.c.id).limit(limit)))


def _lane(row: Sequence[Any]) -> Lane:
    values = dict(zip(Lane.__slots__, row, strict=True))
    return Lane(**values | {"state": LaneState(values["state"])})


def _attempt(row: Sequence[Any]) -> Attempt:
    values = dict(zip(Attempt.__slots__, row, strict=True))
    return Attempt(**values | {"outcome": AttemptOutcome(values["outcome"]) if values["outcome"] else None})


def _checkout(row: Sequence[Any]) -> Checkout:
    values = dict(zip(Checkout.__slots__, row, strict=True))
    return Checkout(**values | {"status": CheckoutStatus(values["status"])})
