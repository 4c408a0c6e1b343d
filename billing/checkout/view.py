"""A checkout as its buyer may see it, and as operators list it: read together with its lane and attempt.

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

from billing.clock import iso
from billing.errors import for_buyer
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, checkouts, lanes
from billing.subscriptions.client_data import ClientData

READ_TOGETHER = 1000  # rows that a list looks through at a time for those of a shown status


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
