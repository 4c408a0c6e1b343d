"""The web's half of an operation: record it, and read what became of it.

What arrives is a body of checked types and a user. What leaves is a row that a worker answers.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from billing.catalog import Catalog
from billing.checkout.requests import redirect_error
from billing.checkout.rules import fingerprint
from billing.clock import Clock
from billing.coordination.jobs import WorkOperations
from billing.coordination.queue import Queue
from billing.customers import store as customers_store
from billing.customers.store import next_number, open_lane
from billing.database import Database
from billing.errors import InvalidRequest, NoSubscription, NotFound
from billing.models import OperationStatus, operations
from billing.operations import store as operations_store
from billing.operations.calls import Kind
from billing.operations.store import OperationView
from billing.rules import idempotency
from billing.rules.ids import new_id


@dataclass(frozen=True, slots=True)
class Recorded:
    """An operation that is in the ledger.

    `is_new`: this call made it. `replayed`: an earlier call with the same key did. `enqueued`: the broker took the job
    for it.
    """

    operation_id: str
    is_new: bool
    replayed: bool
    enqueued: bool


def record_operation(
    kind: Kind,
    request: Mapping[str, Any],
    *,
    user_id: str,
    idempotency_key: str | None,
    database: Database,
    queue: Queue,
    clock: Clock,
    catalog: Catalog,
    redirect_origins: Collection[str],
) -> Recorded:
    """Record an operation and wake a worker.

    Raises InvalidRequest, IdempotencyMismatch, NoSubscription (for users who never were customers), UserErased and
    LedgerUnavailable.
    """
    _check(kind, request, catalog=catalog, redirect_origins=redirect_origins)
    values: dict[str, Any] = {
        "id": new_id("op"),
        "user_id": user_id,
        "kind": kind,
        "request": dict(request),
        "body_hash": fingerprint({"kind": kind, **request}),
        "idempotency_key": idempotency_key,
        "arrived_at": clock.now(),
        "status": OperationStatus.PENDING,
        "sent": [],
    }
    with database.write() as connection:
        if customers_store.read_customer(connection, user_id) is None:
            raise NoSubscription
        lane_id = open_lane(connection, user_id=user_id, product=catalog.product)
        # Numbering locks the lane row: what follows sees every earlier operation of this user.
        values |= {"lane_id": lane_id, "number": next_number(connection, lane_id)}
        earlier = idempotency.find_earlier(connection, operations, values)
        # A second press of the same button waits for the first one's answer (SUB-37).
        waiting = operations_store.find_waiting_equal(connection, lane_id, values["body_hash"])
        joined = waiting if idempotency_key is None else None
        is_new = earlier is None and joined is None
        if is_new:
            idempotency.insert(connection, operations, values)
    operation_id = earlier or joined or values["id"]
    structlog.contextvars.bind_contextvars(operation_id=operation_id)
    enqueued = queue.send(WorkOperations(lane_id))
    return Recorded(operation_id, is_new=is_new, replayed=earlier is not None, enqueued=enqueued)


def read_operation(operation_id: str, *, user_id: str, database: Database, clock: Clock) -> OperationView:
    """The operation as it is now. Raises NotFound, also for another user's."""
    with database.read() as connection:
        view = operations_store.read_view(connection, operation_id, now=clock.now())
    if view is None or view.user_id != user_id:
        raise NotFound("operation")
    return view


def _check(kind: Kind, request: Mapping[str, Any], *, catalog: Catalog, redirect_origins: Collection[str]) -> None:
    wrong: tuple[str, str] | None = None
    if kind is Kind.SWITCH and request["plan"] not in catalog.plans:
        wrong = ("/plan", f"is not sold here; the plans are {', '.join(catalog.plans)}")
    elif kind is Kind.PORTAL and (reason := redirect_error(request["return_url"], origins=redirect_origins)):
        wrong = ("/return_url", reason)
    if wrong:
        raise InvalidRequest("The request is not valid; see errors.", wrong)
