"""Checkouts over HTTP: record the request, wait a bounded time for the worker's answer, say what it is.

Every answer is read from the ledger at the moment it is given. A session's URL is a bearer secret: it leaves
in the body of this answer only, which nobody may store (API-20 to API-27).
"""

import re
from functools import partial

import structlog
from flask import Blueprint, Response, g, jsonify, request
from prometheus_client import Counter, Histogram

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
from app.bodies.schemas import CheckoutBody, ServerCheckoutBody
from app.errors.problems import matches
from app.identity.callers import Identity
from app.limits.users import Limits
from billing.checkout.requests import CheckoutRequest, read_checkout, record_checkout
from billing.checkout.view import CheckoutView
from billing.models import CheckoutStatus
from billing.services import Services

log = structlog.get_logger(__name__)

CHECKOUTS = Counter("onelane_checkouts_total", "Checkout requests by what they were answered.", ["outcome"])
SECONDS = Histogram(
    "onelane_checkout_seconds",
    "Seconds from a checkout request to its answer, the wait included.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20),
)

CHECKOUT_ID = re.compile(r"chk_[a-z0-9]{1,60}")


def checkout_routes(services: Services, *, identity: Identity, limits: Limits) -> Blueprint:
    """POST /v1/checkouts and GET /v1/checkouts/{id}."""
    routes = Blueprint("checkouts", __name__)

    await_answer = partial(await_view, read_checkout, services=services, waiters=limits.waiters)

    @routes.post("/v1/checkouts")
    def create() -> Response:
        wait = Wait(request, default=services.settings.checkout_wait_seconds)
        caller = identity.of(request)
        user_id, body = read_counted(caller, request, CheckoutBody, ServerCheckoutBody, count=limits.checkouts.count)
        recorded = record_checkout(
            CheckoutRequest(**body.model_dump(exclude={"user_id"})),
            user_id=user_id,
            email=caller.email,
            idempotency_key=idempotency_key(request.headers.get("Idempotency-Key")),
            database=services.database,
            queue=services.queue,
            clock=services.clock,
            catalog=services.catalog,
            redirect_origins=services.settings.redirect_origins,
            by_server=caller.is_server,
            count_different=partial(limits.different_checkouts.take, user_id),
        )
        id_, is_new = recorded.checkout_id, not recorded.replayed
        view = await_answer(id_, user_id, wait, enqueued=recorded.enqueued, is_new=is_new)
        is_pending = view.status is CheckoutStatus.PENDING
        available = workers_available(services, wait, is_pending=is_pending, enqueued=recorded.enqueued)
        answer, outcome = _answer(view, waited=wait.seconds > 0, available=available)
        CHECKOUTS.labels(outcome).inc()
        SECONDS.observe(wait.elapsed)
        milliseconds = round(wait.elapsed * 1000, 1)
        log.info("checkout.answered", checkout_id=view.id, outcome=outcome, replayed=recorded.replayed, ms=milliseconds)
        g.logged = True
        return private(answer, wait, replayed=recorded.replayed)

    @routes.get("/v1/checkouts/<checkout_id>")
    def show(checkout_id: str) -> Response:
        wait = Wait(request, default=0)
        caller = identity.of(request)
        user_id = caller.named_in_query(request)
        limits.reads.count(caller, user_id, request)
        return shown(await_answer(matches(CHECKOUT_ID, checkout_id), user_id, wait).as_json(), wait)

    return routes


def _answer(view: CheckoutView, *, waited: bool, available: bool) -> tuple[Response, str]:
    """The answer to the POST, and its name in the metrics; `available` is whether workers can be told of it."""
    location = f"/v1/checkouts/{view.id}"
    match view.status:
        case CheckoutStatus.PENDING:
            trouble = view.trouble if waited else None
            return pending(view.as_json(), location, trouble=trouble, available=available, checkout_id=view.id)
        case CheckoutStatus.OPEN:
            answer = jsonify(view.as_json())
            answer.status_code = 201
            answer.headers["Location"] = request.script_root + location
            return answer, "open"
        case CheckoutStatus.COMPLETED | CheckoutStatus.EXPIRED:  # only a replayed request finds these
            return jsonify(view.as_json()), view.status.value
        case CheckoutStatus.SUPERSEDED:
            return refusal(None, otherwise="superseded", checkout_id=view.id)
        case CheckoutStatus.REFUSED:
            return refusal(view.error, otherwise="payment_in_progress", checkout_id=view.id)
        case CheckoutStatus.FAILED:
            return refusal(view.error, otherwise="stripe_refused", checkout_id=view.id)
