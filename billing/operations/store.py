"""The rows of operations: every SQL statement about what buyers asked to be changed.

Of one lane, only the oldest pending operation is worked. Each change of it is one UPDATE that expects the version that
was read, and raises it. A worker that loses one reads again (SUB-30).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from billing.errors import for_buyer
from billing.models import OperationStatus, customers, lanes, operations
from billing.operations.calls import Kind, Sent, Write
from billing.rules.backoff import Backoff

URL_LIFETIME = timedelta(minutes=5)  # of a portal session's address in its row: a buyer follows it at once, or never
BACKOFF = Backoff(timedelta(seconds=0.5), timedelta(minutes=10))


@dataclass(frozen=True, slots=True)
class Operation:
    """A row of `operations`, as a worker needs it."""

    id: str
    lane_id: int
    user_id: str
    kind: Kind
    request: Mapping[str, Any]
    version: int
    subscription_id: str | None
    call: Mapping[str, Any] | None
    sent: Sequence[Sent]
    failure: Mapping[str, Any] | None
    failures: int
    next_attempt_at: datetime | None
    arrived_at: datetime


@dataclass(frozen=True, slots=True)
class OperationView:
    """An operation as its buyer sees it; `trouble` is why a pending one has to wait, if something is wrong."""

    id: str
    user_id: str
    kind: str
    request: Mapping[str, Any]
    status: OperationStatus
    url: str | None
    error: Mapping[str, Any] | None
    trouble: str | None
    arrived_at: datetime
    finished_at: datetime | None


_OPERATION = [operations.c[name] for name in Operation.__slots__]
_MOST_CANCELLATIONS = 50  # of a buyer who cancels and takes it back again and again, only the newest matter
_PENDING = operations.c.status == OperationStatus.PENDING


# --- the web's half


def find_waiting_equal(connection: sa.Connection, lane_id: int, body_hash: str) -> str | None:
    """The newest operation of the lane, when it is the same and not answered yet."""
    newest = sa.select(operations.c.id, operations.c.body_hash).where(operations.c.lane_id == lane_id, _PENDING)
    row = connection.execute(newest.order_by(operations.c.number.desc()).limit(1)).first()
    return row.id if row is not None and row.body_hash == body_hash else None


def read_view(connection: sa.Connection, operation_id: str, *, now: datetime) -> OperationView | None:
    """An operation as its buyer sees it; an address only during its lifetime."""
    row = connection.execute(sa.select(operations).where(operations.c.id == operation_id)).first()
    if row is None:
        return None
    status = OperationStatus(row.status)
    fresh = row.finished_at is not None and row.finished_at > now - URL_LIFETIME
    return OperationView(
        id=row.id,
        user_id=row.user_id,
        kind=row.kind,
        request=row.request,
        status=status,
        url=row.url if fresh else None,
        error=for_buyer(row.error),
        trouble=row.last_error if status is OperationStatus.PENDING else None,
        arrived_at=row.arrived_at,
        finished_at=row.finished_at,
    )


# --- the worker's half


def oldest_pending(connection: sa.Connection, lane_id: int) -> Operation | None:
    """The operation that is worked next: one at a time in a lane, in the order of arrival."""
    pending = sa.select(*_OPERATION).where(operations.c.lane_id == lane_id, _PENDING)
    row = connection.execute(pending.order_by(operations.c.number).limit(1)).first()
    return None if row is None else as_operation(row._mapping)


def as_operation(row: sa.RowMapping) -> Operation:
    """A row as the worker has it."""
    return Operation(**{**row, "kind": Kind(row["kind"]), "sent": [_as_sent(one) for one in row["sent"]]})


def as_rows(sent: Iterable[Sent]) -> list[dict[str, Any]]:
    """Writes as their row has them."""
    return [{name: value for name, value in asdict(one).items() if value is not None} for one in sent]


def _as_sent(one: Mapping[str, Any] | str) -> Sent:
    return Sent(one) if isinstance(one, str) else Sent(**one)  # rows of an earlier version have the name alone


def find_cancellations(connection: sa.Connection, lane_id: int) -> list[Sent]:
    """What this lane's operations have cancelled, newest first: which end is the buyer's own, and what it replaced."""
    of_lane = (operations.c.lane_id == lane_id, operations.c.kind == Kind.CANCEL)
    rows = sa.select(operations.c.sent).where(*of_lane).order_by(operations.c.number.desc()).limit(_MOST_CANCELLATIONS)
    found = [_as_sent(one) for sent in connection.scalars(rows) for one in reversed(sent)]
    return [one for one in found if one.name == Write.CANCEL and one.ends_at is not None]


def find_customer(connection: sa.Connection, lane_id: int) -> tuple[str, str | None] | None:
    """Whose lane it is, and their Stripe customer if they have one."""
    owner = sa.select(customers.c.user_id, customers.c.customer_id).join(lanes, lanes.c.user_id == customers.c.user_id)
    row = connection.execute(owner.where(lanes.c.id == lane_id)).first()
    return None if row is None else (row.user_id, row.customer_id)


def change(connection: sa.Connection, operation: Operation, **values: Any) -> bool:
    """Compare-and-set an operation from what was read; whether it was still as read."""
    unchanged = sa.update(operations).where(
        operations.c.id == operation.id, operations.c.version == operation.version, _PENDING
    )
    return connection.execute(unchanged.values(version=operation.version + 1, **values)).rowcount == 1


def finish(
    connection: sa.Connection,
    operation: Operation,
    status: OperationStatus,
    *,
    now: datetime,
    error: Mapping[str, Any] | None = None,
    url: str | None = None,
) -> bool:
    """End an operation; whether it was still as read."""
    ended = {"status": status, "error": error, "url": url, "finished_at": now}
    ended["request"] = {name: value for name, value in operation.request.items() if name == "plan"}  # what is shown
    return change(connection, operation, **ended, call=None, failure=None, last_error=None)


def postpone(connection: sa.Connection, operation: Operation, *, code: str, until: datetime, counted: bool) -> None:
    """Note a transient failure, `counted` or not: no worker takes this lane's operations before `until`."""
    own = sa.update(operations).where(operations.c.id == operation.id, _PENDING)
    connection.execute(
        own.values(failures=operations.c.failures + int(counted), last_error=code, next_attempt_at=until)
    )


def lanes_to_wake(connection: sa.Connection, *, now: datetime, limit: int) -> list[int]:
    """Lanes with a pending operation whose time has come."""
    due = BACKOFF.is_due(operations.c.next_attempt_at, now=now)
    statement = sa.select(operations.c.lane_id).where(_PENDING, due).distinct().order_by(operations.c.lane_id)
    return list(connection.scalars(statement.limit(limit)))


def forget_addresses(connection: sa.Connection, *, now: datetime) -> None:
    """Drop addresses that nobody may follow any more."""
    had_url = sa.and_(operations.c.url.is_not(None), operations.c.finished_at <= now - URL_LIFETIME)
    connection.execute(sa.update(operations).where(had_url).values(url=None))
