"""The rows of checkouts: answered, superseded, refused and failed by a worker, and read as their buyers may see them.

A URL is a bearer secret, and it promises that paying is right now. So it is read in one SELECT that joins the lane, and
shown only while the lane is open with the checkout's own nonce. Otherwise the checkout shows what became of it (CHK-6).
"""

import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.checkout import lane_store
from billing.checkout.rules import Checkout, Lane
from billing.clock import iso
from billing.errors import for_buyer
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, checkouts, lanes
from billing.subscriptions.client_data import ClientData

READ_TOGETHER = 1000  # rows that a list looks through at a time for those of a shown status

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
_NOTHING = sa.literal({}, checkouts.c.request.type)
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
        request=sa.case((checkouts.c.id != _MADE_FOR, _NOTHING), else_=checkouts.c.request),
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
    request = sa.case((checkouts.c.body_hash == _BEFORE, _NOTHING), else_=checkouts.c.request)
    statement = sa.update(checkouts).where(*where).values(status=status, error=error, answered_at=now, request=request)
    return list(connection.scalars(statement.returning(checkouts.c.id)))


def read_attempt_of(connection: sa.Connection, checkout_id: str) -> tuple[int, str | None]:
    """The lane of a checkout, and the attempt that it was answered with."""
    query = sa.select(checkouts.c.lane_id, checkouts.c.nonce).where(checkouts.c.id == checkout_id)
    row = connection.execute(query).one()
    return row.lane_id, row.nonce


# --- as the buyer sees it


@dataclass(frozen=True, slots=True)
class CheckoutView:
    """The resource of GET /v1/checkouts/{id}; `trouble` is why a pending one has to wait, if something is wrong."""

    id: str
    user_id: str
    status: CheckoutStatus
    plan: str
    url: str | None
    session_id: str | None
    expires_at: datetime | None
    reused: bool
    said: ClientData
    error: Mapping[str, Any] | None
    trouble: str | None

    def as_json(self) -> dict[str, Any]:
        """The public shape."""
        return {
            "id": self.id,
            "status": self.status.value,
            "plan": self.plan,
            "url": self.url,
            "session_id": self.session_id,
            "expires_at": iso(self.expires_at),
            "reused": self.reused,
            **self.said.as_json(),
            "error": dict(self.error) if self.error else None,
        }


_made_for = checkouts.alias("made_for")  # the checkout that the session was made for
# What `_shown` decides from; `now` is a parameter of every statement with them.
_FACTS = (
    checkouts.c.status,
    attempts.c.outcome,
    (attempts.c.expires_at <= sa.bindparam("now")).label("is_over"),
    sa.and_(lanes.c.state == LaneState.OPEN, lanes.c.nonce == checkouts.c.nonce).label("is_current"),
)
_JOINED = checkouts.join(lanes, lanes.c.id == checkouts.c.lane_id).outerjoin(
    attempts, attempts.c.nonce == checkouts.c.nonce
)
_WITH_LANE = sa.select(
    checkouts.c.id,
    checkouts.c.user_id,
    checkouts.c.status,
    checkouts.c.plan,
    checkouts.c.reused,
    checkouts.c.request,
    _made_for.c.request.label("same_request"),
    checkouts.c.error,
    lanes.c.last_error,
    attempts.c.url,
    attempts.c.session_id,
    attempts.c.expires_at,
    *_FACTS[1:],
).select_from(_JOINED.outerjoin(_made_for, _made_for.c.id == attempts.c.checkout_id))
_VIEW = _WITH_LANE.where(checkouts.c.id == sa.bindparam("checkout_id"))


def read_view(connection: sa.Connection, checkout_id: str, *, now: datetime) -> CheckoutView | None:
    """Read a checkout together with its lane and attempt, in one statement."""
    row = connection.execute(_VIEW, {"checkout_id": checkout_id, "now": now}).first()
    if row is None:
        return None
    status = _shown(row)
    return CheckoutView(
        id=row.id,
        user_id=row.user_id,
        status=status,
        plan=row.plan,
        url=row.url if status is CheckoutStatus.OPEN else None,
        session_id=row.session_id,
        expires_at=row.expires_at,
        reused=row.reused,
        said=ClientData.of(row.request or row.same_request or {}),
        error=for_buyer(row.error),
        trouble=row.last_error if status is CheckoutStatus.PENDING else None,
    )


def read_newest(
    connection: sa.Connection,
    *,
    status: CheckoutStatus | None,
    where: Iterable[sa.ColumnElement[bool]] = (),
    now: datetime,
    limit: int,
) -> list[dict[str, Any]]:
    """The newest checkouts without their urls; `status` is what their buyers are shown (CHK-6)."""
    query = _WITH_LANE.add_columns(checkouts.c.arrived_at, checkouts.c.answered_at)
    query = query.where(*where).order_by(checkouts.c.arrived_at.desc(), checkouts.c.number.desc())
    if status is not None:  # one that is stored as open may be shown as anything that follows it
        query = query.where(checkouts.c.status.in_({status, CheckoutStatus.OPEN}))
    found: list[dict[str, Any]] = []
    for offset in range(0, sys.maxsize, READ_TOGETHER):
        rows = connection.execute(query.limit(READ_TOGETHER).offset(offset), {"now": now}).all()
        for row in rows:
            shown = _shown(row)
            if status in (None, shown):
                others = {name: getattr(row, name) for name in ("arrived_at", "user_id", "plan", "answered_at")}
                found.append({"id": row.id, "status": shown.value, **others})
        if len(found) >= limit or len(rows) < READ_TOGETHER:
            break
    return found[:limit]


def count_shown(connection: sa.Connection, *, since: datetime, now: datetime) -> dict[str, int]:
    """How many of those that arrived since then are shown as what."""
    facts = sa.select(*_FACTS).select_from(_JOINED).where(checkouts.c.arrived_at >= since).subquery()
    counted: Counter[str] = Counter()
    query = sa.select(*facts.c, sa.func.count().label("number")).group_by(*facts.c)
    for row in connection.execute(query, {"now": now}):
        counted[_shown(row).value] += row.number
    return dict(sorted(counted.items()))


def _shown(row: Any) -> CheckoutStatus:
    """What an answered checkout is by now."""
    status = CheckoutStatus(row.status)
    if status is not CheckoutStatus.OPEN:
        return status
    if row.outcome == AttemptOutcome.COMPLETED:
        return CheckoutStatus.COMPLETED
    if row.outcome == AttemptOutcome.EXPIRED or row.is_over:
        return CheckoutStatus.EXPIRED
    if row.is_current and row.outcome is None:
        return CheckoutStatus.OPEN
    return CheckoutStatus.SUPERSEDED


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
