"""A checkout as its buyer may see it, read in one SELECT that joins its lane and its attempt.

The URL is a bearer secret and a promise that paying is right now: it comes out only while the lane is
open with the checkout's own nonce. Otherwise the checkout shows what became of it (CHK-6).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from billing.clock import iso
from billing.models import AttemptOutcome, CheckoutStatus, LaneState, attempts, checkouts, lanes


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
            "error": dict(self.error) if self.error else None,
        }


_READ = (
    sa.select(
        checkouts.c.id,
        checkouts.c.user_id,
        checkouts.c.status,
        checkouts.c.plan,
        checkouts.c.reused,
        checkouts.c.error,
        checkouts.c.nonce,
        lanes.c.state,
        lanes.c.nonce.label("lane_nonce"),
        lanes.c.last_error,
        attempts.c.url,
        attempts.c.session_id,
        attempts.c.expires_at,
        attempts.c.outcome,
    )
    .join(lanes, lanes.c.id == checkouts.c.lane_id)
    .outerjoin(attempts, attempts.c.nonce == checkouts.c.nonce)
    .where(checkouts.c.id == sa.bindparam("checkout_id"))
)


def read_view(connection: sa.Connection, checkout_id: str, *, now: datetime) -> CheckoutView | None:
    """Read a checkout together with its lane and attempt, in one statement."""
    row = connection.execute(_READ, {"checkout_id": checkout_id}).first()
    if row is None:
        return None
    status = _shown(row, now)
    return CheckoutView(
        id=row.id,
        user_id=row.user_id,
        status=status,
        plan=row.plan,
        url=row.url if status is CheckoutStatus.OPEN else None,
        session_id=row.session_id,
        expires_at=row.expires_at,
        reused=row.reused,
        error=row.error,
        trouble=row.last_error if status is CheckoutStatus.PENDING else None,
    )


def _shown(row: Any, now: datetime) -> CheckoutStatus:
    """What an answered checkout is by now."""
    status = CheckoutStatus(row.status)
    if status is not CheckoutStatus.OPEN:
        return status
    if row.outcome == AttemptOutcome.COMPLETED:
        return CheckoutStatus.COMPLETED
    if row.outcome == AttemptOutcome.EXPIRED or row.expires_at <= now:
        return CheckoutStatus.EXPIRED
    if row.state == LaneState.OPEN and row.nonce == row.lane_nonce and row.outcome is None:
        return CheckoutStatus.OPEN
    return CheckoutStatus.SUPERSEDED
