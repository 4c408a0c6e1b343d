"""Changes of a subscription over HTTP: cancel, reactivate, switch, undo, and the way into Stripe's portal.

Each is recorded as an operation and answered like a checkout: within the wait 200, else 202 and `Location`. The web has
no Stripe key. A portal's address is a bearer secret like a payment page's: it leaves in the body of this answer only.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request
from prometheus_client import Counter

from app.answers import (
    Wait,
    await_view,
    idempotency_key,
    pending,
    private,
    read_counted,
    refusal,
    shown,
    workers_available,
)
from app.bodies.reading import read_optional_body
from app.bodies.schemas import NoBody, PortalBody, ServerBody, ServerPortalBody, ServerSwitchBody, SwitchBody
from app.errors.problems import matches
from app.identity.callers import Identity
from app.limits.users import Limits
from billing.clock import iso
from billing.models import OperationStatus
from billing.operations.calls import Kind
from billing.operations.requests import read_operation, record_operation
from billing.operations.store import OperationView
from billing.services import Services
from billing.subscriptions.queries import read_subscription

log = structlog.get_logger(__name__)

OPERATIONS = Counter("onelane_operations_total", "Changes of subscriptions by what they were answered.", ["outcome"])
OPERATION_ID = re.compile(r"op_[a-z0-9]{1,60}")


def operation_routes(services: Services, *, identity: Identity, limits: Limits) -> Blueprint:
    """POST cancel, reactivate, switch; DELETE switch; POST portal-sessions; GET operations/{id}."""
    routes = Blueprint("operations", __name__)

    await_answer = partial(await_view, read_operation, services=services, waiters=limits.waiters)

    def as_json(view: OperationView) -> dict[str, Any]:
        """The resource; what succeeded comes with the subscription as it is now."""
        body = _as_json(view)
        if view.status is OperationStatus.SUCCEEDED:
            now = read_subscription(
                view.user_id, database=services.database, catalog=services.catalog, clock=services.clock
            )
            body |= {name: now[name] for name in ("access", "subscription")}
        return body

    def change(kind: Kind, user_id: str, parameters: Mapping[str, Any], wait: Wait) -> Response:
        recorded = record_operation(
            kind,
            parameters,
            user_id=user_id,
            idempotency_key=idempotency_key(request.headers.get("Idempotency-Key")),
            database=services.database,
            queue=services.queue,
            clock=services.clock,
            catalog=services.catalog,
            redirect_origins=services.settings.redirect_origins,
        )
        id_, is_new = recorded.operation_id, recorded.is_new
        view = await_answer(id_, user_id, wait, enqueued=recorded.enqueued, is_new=is_new)
        is_pending = view.status is OperationStatus.PENDING
        available = workers_available(services, wait, is_pending=is_pending, enqueued=recorded.enqueued)
        answer = _answer(view, as_json(view), waited=wait.seconds > 0, available=available)
        OPERATIONS.labels(f"{kind.value}_{view.status.value}").inc()
        log.info("operation.answered", operation_id=view.id, kind=kind.value, status=view.status.value)
        return private(answer, wait, replayed=recorded.replayed)

    def default_wait() -> Wait:
        return Wait(request, default=services.settings.checkout_wait_seconds)

    @routes.post("/v1/subscription/cancel", endpoint="cancel", defaults={"kind": Kind.CANCEL})
    @routes.post("/v1/subscription/reactivate", endpoint="reactivate", defaults={"kind": Kind.REACTIVATE})
    def change_end(kind: Kind) -> Response:
        wait, caller = default_wait(), identity.of(request)
        user_id, _ = read_counted(
            caller, request, NoBody, ServerBody, count=limits.operations.count, read=read_optional_body
        )
        return change(kind, user_id, {}, wait)

    @routes.post("/v1/subscription/switch")
    def switch() -> Response:
        wait, caller = default_wait(), identity.of(request)
        user_id, body = read_counted(caller, request, SwitchBody, ServerSwitchBody, count=limits.operations.count)
        return change(Kind.SWITCH, user_id, {"plan": body.plan}, wait)

    @routes.delete("/v1/subscription/switch")
    def undo_switch() -> Response:
        wait, caller = default_wait(), identity.of(request)
        if caller.is_server and not request.args:
            user_id = read_optional_body(request, ServerBody).user_id
            limits.operations.count(caller, user_id, request)
        else:  # many clients send no body with a DELETE
            user_id = caller.named_in_query(request)
            limits.operations.count(caller, user_id, request)
            read_optional_body(request, NoBody)
        return change(Kind.UNDO_SWITCH, user_id, {}, wait)

    @routes.post("/v1/portal-sessions")
    def portal() -> Response:
        wait, caller = default_wait(), identity.of(request)
        user_id, body = read_counted(caller, request, PortalBody, ServerPortalBody, count=limits.operations.count)
        return change(Kind.PORTAL, user_id, {"return_url": body.return_url}, wait)

    @routes.get("/v1/operations/<operation_id>")
    def show(operation_id: str) -> Response:
        wait = Wait(request, default=0)
        caller = identity.of(request)
        user_id = caller.named_in_query(request)
        limits.reads.count(caller, user_id, request)
        id_ = matches(OPERATION_ID, operation_id)
        return shown(as_json(await_answer(id_, user_id, wait)), wait)

    return routes


def _as_json(view: OperationView) -> dict[str, Any]:
    return {
        "id": view.id,
        "kind": view.kind,
        "status": view.status.value,
        "plan": view.request.get("plan"),
        "url": view.url,
        "error": dict(view.error) if view.error else None,
        "created_at": iso(view.arrived_at),
        "finished_at": iso(view.finished_at),
        "access": None,
        "subscription": None,
    }


def _answer(view: OperationView, body: Mapping[str, Any], *, waited: bool, available: bool) -> Response:
    """The answer to a call that changes something; `available` is whether workers can be told of it."""
    match view.status:
        case OperationStatus.SUCCEEDED:
            return jsonify(body)
        case OperationStatus.PENDING:  # it stays, and will be done (API-42)
            location, trouble = f"/v1/operations/{view.id}", view.trouble if waited else None
            return pending(body, location, trouble=trouble, available=available, operation_id=view.id)[0]
        case OperationStatus.REFUSED | OperationStatus.FAILED:
            return refusal(view.error, otherwise="stripe_refused", operation_id=view.id)[0]
