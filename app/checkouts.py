"""Checkouts over HTTP: record the request, wait a bounded time for the worker's answer, say what it is.

Every answer is read from the ledger at the moment it is given. A session's URL is a bearer secret: it leaves
in the body of this answer only, which nobody may store (API-20 to API-27).
"""

import re
import time
from collections.abc import Mapping
from typing import Any

import structlog
from flask import Blueprint, Response, jsonify, request
from prometheus_client import Counter, Histogram

from app.auth import Identity
from app.bodies import read_body
from app.errors import PROBLEMS, matches, problem
from app.limits import RateLimit, Seats, Turns, aside
from app.schemas import CheckoutBody, ServerCheckoutBody
from billing.checkout.requests import CheckoutRequest, await_checkout, read_checkout, record_checkout
from billing.checkout.view import CheckoutView
from billing.errors import InvalidRequest
from billing.models import CheckoutStatus
from billing.services import Services
from billing.wakeups import POLLING

log = structlog.get_logger(__name__)

CHECKOUTS = Counter("onelane_checkouts_total", "Checkout requests by what they were answered.", ["outcome"])
SECONDS = Histogram(
    "onelane_checkout_seconds",
    "Seconds from a checkout request to its answer, the wait included.",
    buckets=(0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20),
)

CHECKOUT_ID = re.compile(r"chk_[a-z0-9]{1,60}")
MOST_WAIT_SECONDS = 20.0
RETRY_AFTER_SECONDS = 1  # a checkout takes two to five Stripe calls
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?")
_KEY = re.compile(r'"(?P<quoted>[\x20\x21\x23-\x7e]{1,255})"|(?P<bare>[\x21\x23-\x7e][\x21-\x7e]{0,254})')


def checkout_routes(
    services: Services, *, identity: Identity, asks: RateLimit, reads: RateLimit, waiters: Seats, turns: Turns
) -> Blueprint:
    """POST /v1/checkouts and GET /v1/checkouts/{id}."""
    routes = Blueprint("checkouts", __name__)

    def await_answer(checkout_id: str, user_id: str, seconds: float, *, enqueued: bool = True) -> CheckoutView:
        if seconds <= 0:
            return read_checkout(checkout_id, user_id=user_id, database=services.database, clock=services.clock)
        with aside(request.environ), waiters.take(user_id) as seated:
            return await_checkout(
                checkout_id,
                user_id=user_id,
                seconds=seconds if seated else 0,
                database=services.database,
                wakeups=services.wakeups if enqueued else POLLING,
                clock=services.clock,
                turn=lambda: turns.take(user_id),
            )

    @routes.post("/v1/checkouts")
    def create() -> Response:
        started = time.monotonic()
        caller = identity.of(request)
        if caller.user_id is None:
            asked = read_body(request, ServerCheckoutBody)
            user_id, body = asked.user_id, CheckoutBody(**asked.model_dump(exclude={"user_id"}))
        else:
            user_id, body = caller.user_id, read_body(request, CheckoutBody)
        key = idempotency_key(request.headers.get("Idempotency-Key"))
        with turns.take(user_id):
            asks.take(user_id)
            recorded = record_checkout(
                CheckoutRequest(**body.model_dump()),
                user_id=user_id,
                email=caller.email,
                idempotency_key=key,
                database=services.database,
                queue=services.queue,
                clock=services.clock,
                catalog=services.catalog,
                redirect_origins=services.settings.redirect_origins,
            )
        wanted = preferred_wait(request.headers.getlist("Prefer"))
        default = services.settings.checkout_wait_seconds
        seconds = default if wanted is None else wanted
        # From when it came: what a hanging Redis has taken by now is not waited for once more.
        left = seconds - (time.monotonic() - started)
        view = await_answer(recorded.checkout_id, user_id, left, enqueued=recorded.enqueued)
        waited = seconds > 0
        late = view.status is CheckoutStatus.PENDING and waited and time.monotonic() - started >= seconds
        answer, outcome = _answer(
            view, waited=waited, available=not late or workers_available(services, enqueued=recorded.enqueued)
        )
        if recorded.replayed:
            answer.headers["Idempotent-Replayed"] = "true"
        CHECKOUTS.labels(outcome).inc()
        SECONDS.observe(time.monotonic() - started)
        log.info("checkout.answered", checkout_id=view.id, outcome=outcome, replayed=recorded.replayed)
        return private(answer, wanted)

    @routes.get("/v1/checkouts/<checkout_id>")
    def show(checkout_id: str) -> Response:
        user_id = identity.of(request).named_in_query(request)
        reads.take(user_id)
        wanted = preferred_wait(request.headers.getlist("Prefer"))
        view = await_answer(matches(CHECKOUT_ID, checkout_id), user_id, wanted or 0)
        answer = jsonify(view.as_json())
        if view.status is CheckoutStatus.PENDING:
            answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return private(answer, wanted)

    return routes


def workers_available(services: Services, *, enqueued: bool) -> bool:
    """Whether the broker answers, asked only where nothing says so yet: asking a hung one takes a second."""
    return enqueued and services.wakeups.available() and services.queue.reachable()


def preferred_wait(prefer: list[str]) -> float | None:
    """The seconds of `Prefer: wait=N` (RFC 7240), at most 20. A preference that cannot be read is no preference."""
    for preference in ",".join(prefer).split(","):
        if found := _WAIT.fullmatch(preference.partition(";")[0].strip().lower()):
            return min(float(found[1]), MOST_WAIT_SECONDS)
    return None


def idempotency_key(header: str | None) -> str | None:
    """The Idempotency-Key, quoted as the draft standard has it or bare as everybody sends it."""
    if header is None:
        return None
    found = _KEY.fullmatch(header.strip())
    if not found:
        raise InvalidRequest("Idempotency-Key must be 1 to 255 printable ASCII characters, quoted or bare.")
    return found["quoted"] or found["bare"]


def _answer(view: CheckoutView, *, waited: bool, available: bool = True) -> tuple[Response, str]:
    """The answer to the POST, and its name in the metrics; `heard` is whether workers can be told of it."""
    match view.status:
        case CheckoutStatus.PENDING if waited and view.trouble and view.trouble in PROBLEMS:
            # Stripe does not answer. The checkout stays and will be served; its buyer should know (API-27).
            answer = problem(view.trouble, checkout_id=view.id)
            answer.headers["Location"] = f"/v1/checkouts/{view.id}"
            return answer, view.trouble
        case CheckoutStatus.PENDING if not available:
            # The broker is away. The checkout stays and the sweep will find it; "soon" would be a guess (API-28).
            words = "The checkout is recorded, but no worker can be told of it just now. Look at its Location later."
            answer = problem("try_again", words, checkout_id=view.id)
            answer.headers["Location"] = f"/v1/checkouts/{view.id}"
            return answer, "try_again"
        case CheckoutStatus.OPEN:
            answer = jsonify(view.as_json())
            answer.status_code = 201
            answer.headers["Location"] = f"/v1/checkouts/{view.id}"
            return answer, "open"
        case CheckoutStatus.PENDING:
            answer = jsonify(view.as_json())
            answer.status_code = 202
            answer.headers["Location"] = f"/v1/checkouts/{view.id}"
            answer.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
            return answer, "pending"
        case CheckoutStatus.COMPLETED | CheckoutStatus.EXPIRED:  # only a replayed request finds these
            return jsonify(view.as_json()), view.status.value
        case CheckoutStatus.SUPERSEDED:
            return _refusal(view, {"code": "superseded"}, "superseded")
        case CheckoutStatus.REFUSED:
            return _refusal(view, view.error or {}, "payment_in_progress")
        case CheckoutStatus.FAILED:
            return _refusal(view, view.error or {}, "stripe_refused")


def _refusal(view: CheckoutView, error: Mapping[str, Any], otherwise: str) -> tuple[Response, str]:
    code = error.get("code") if error.get("code") in PROBLEMS else otherwise
    assert isinstance(code, str)
    # `status` is the problem's own; the subscription's goes by its full name.
    extra = {name: value for name, value in error.items() if name not in ("code", "detail", "status")}
    if "status" in error:
        extra["subscription_status"] = error["status"]
    return problem(code, error.get("detail"), checkout_id=view.id, **extra), code


def private(answer: Response, wanted: float | None) -> Response:
    """Nobody may store this answer (API-23); and which wait was honoured."""
    answer.cache_control.no_store = True
    if wanted is not None:
        answer.headers["Preference-Applied"] = f"wait={wanted:.0f}"
    return answer
