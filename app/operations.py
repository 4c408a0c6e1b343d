"""Changes of a subscription over HTTP: cancel, reactivate, switch, undo, and the way into Stripe's portal.

Each is recorded as an operation and answered like a checkout: within the wait 200, else 202 and `Location`. The web has
no Stripe key. A portal's address is a bearer secret like a payment page's: it leaves in the body of this answer only.
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request
from prometheus_client import Counter

from app.auth import Identity
from app.bodies import read_body, read_optional_body
from app.checkouts import RETRY_AFTER_SECONDS, idempotency_key, preferred_wait, private, workers_available
from app.errors import PROBLEMS, matches, problem
from app.limits import RateLimit, Seats, Turns, aside
from app.schemas import NoBody, PortalBody, ServerBody, ServerPortalBody, ServerSwitchBody, SwitchBody
from billing.clock import iso
from billing.models import OperationStatus
from billing.operations.decide import Kind
from billing.operations.requests import await_operation, read_operation, record_operation
from billing.operations.store import OperationView
from billing.services import Services
from billing.subscriptions.queries import read_subscription
from billing.wakeups import POLLING

log = structlog.get_logger(__name__)

OPERATIONS = Counter("onelane_operations_total", "Changes of subscriptions by what they were answered.", ["outcome"])
OPERATION_ID = re.compile(r"op_[a-z0-9]{1,60}")


def change_routes(
    services: Services, *, identity: Identity, asks: RateLimit, reads: RateLimit, waiters: Seats, turns: Turns
) -> Blueprint:
    """POST cancel, reactivate, switch; DELETE switch; POST portal-sessions; GET operations/{id}."""
    routes = Blueprint("changes", __name__)

    def await_answer(operation_id: str, user_id: str, seconds: float, *, enqueued: bool = True) -> OperationView:
        with aside(request.environ), waiters.take(user_id) as seated:
            return await_operation(
                operation_id,
                user_id=user_id,
                seconds=seconds if seated else 0,
                database=services.database,
                wakeups=services.wakeups if enqueued else POLLING,
                clock=services.clock,
            )

    def shown(view: OperationView) -> dict[str, Any]:
        """The resource; what succeeded comes with the subscription as it is now."""
        body = _as_json(view)
        if view.status is OperationStatus.SUCCEEDED:
            now = read_subscription(
                view.user_id, database=services.database, catalog=services.catalog, clock=services.clock
            )
            body |= {name: now[name] for name in ("access", "subscription")}
        return body

    def change(kind: Kind, user_id: str, asked: Mapping[str, Any]) -> Response:
        started = time.monotonic()
        key = idempotency_key(request.headers.get("Idempotency-Key"))
        with turns.take(user_id):
            asks.take(user_id)
            recorded = record_operation(
                kind,
                asked,
                user_id=user_id,
                idempotency_key=key,
                database=services.database,
                queue=services.queue,
                clock=services.clock,
                catalog=services.catalog,
                redirect_origins=services.settings.redirect_origins,
            )
        wanted = preferred_wait(request.headers.getlist("Prefer"))
        seconds = services.settings.checkout_wait_seconds if wanted is None else wanted
        left = seconds - (time.monotonic() - started)
        view = await_answer(recorded.operation_id, user_id, left, enqueued=recorded.enqueued)
        late = seconds > 0 and view.status is OperationStatus.PENDING and time.monotonic() - started >= seconds
        available = not late or workers_available(services, enqueued=recorded.enqueued)
        answer = _answer(view, shown(view), waited=seconds > 0, available=available)
        if recorded.replayed:
            answer.headers["Idempotent-Replayed"] = "true"
        OPERATIONS.labels(f"{kind.value}_{view.status.value}").inc()
        log.info("operation.answered", operation_id=view.id, kind=kind.value, status=view.status.value)
        return private(answer, wanted)

    @routes.post("/v1/subscription/cancel", endpoint="cancel", defaults={"kind": Kind.CANCEL})
    @routes.post("/v1/subscription/reactivate", endpoint="reactivate", defaults={"kind": Kind.REACTIVATE})
    def change_end(kind: Kind) -> Response:
        caller = identity.of(request)
        if caller.user_id is None:
            return change(kind, read_optional_body(request, ServerBody).user_id, {})
        read_optional_body(request, NoBody)
        return change(kind, caller.user_id, {})

    @routes.post("/v1/subscription/switch")
    def switch() -> Response:
        caller = identity.of(request)
        if caller.user_id is None:
            named = read_body(request, ServerSwitchBody)
            return change(Kind.SWITCH, named.user_id, {"plan": named.plan})
        return change(Kind.SWITCH, caller.user_id, {"plan": read_body(request, SwitchBody).plan})

    @routes.delete("/v1/subscription/switch")
    def undo_switch() -> Response:
        caller = identity.of(request)
        if caller.user_id is None and not request.args:  # many clients send no body with a DELETE
            return change(Kind.UNDO_SWITCH, read_optional_body(request, ServerBody).user_id, {})
        read_optional_body(request, NoBody)
        return change(Kind.UNDO_SWITCH, caller.named_in_query(request), {})

    @routes.post("/v1/portal-sessions")
    def portal() -> Response:
        caller = identity.of(request)
        if caller.user_id is None:
            named = read_body(request, ServerPortalBody)
            return change(Kind.PORTAL, named.user_id, {"return_url": named.return_url})
        return change(Kind.PORTAL, caller.user_id, {"return_url": read_body(request, PortalBody).return_url})

    @routes.get("/v1/operations/<operation_id>")
    def show(operation_id: str) -> Response:
        user_id = identity.of(request).named_in_query(request)
        reads.take(user_id)
        wanted = preferred_wait(request.headers.getlist("Prefer"))
        id_ = matches(OPERATION_ID, operation_id)
        read_operation(id_, user_id=user_id, database=services.database, clock=services.clock)  # 404 before any wait
        view = await_answer(id_, user_id, wanted or 0)
        answer = jsonify(shown(view))
        if view.status is OperationStatus.PENDING:
            answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return private(answer, wanted)

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
    """The answer to a call that changes something; `heard` is whether workers can be told of it."""
    location = f"/v1/operations/{view.id}"
    match view.status:
        case OperationStatus.SUCCEEDED:
            return jsonify(body)
        case OperationStatus.PENDING:
            if waited and view.trouble and view.trouble in PROBLEMS:
                answer = problem(view.trouble, operation_id=view.id)  # it stays, and will be done (API-42)
            elif not available:
                words = "The change is recorded, but no worker can be told of it just now. Look at its Location later."
                answer = problem("try_again", words, operation_id=view.id)
            else:
                answer = jsonify(body)
                answer.status_code = 202
                answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            answer.headers["Location"] = location
            return answer
        case OperationStatus.REFUSED | OperationStatus.FAILED:
            error = view.error or {}
            code = error["code"] if error.get("code") in PROBLEMS else "stripe_refused"
            extra = {name: value for name, value in error.items() if name not in ("code", "detail")}
            return problem(code, error.get("detail"), operation_id=view.id, **extra)
