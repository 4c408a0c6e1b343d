"""Stripe's deliveries: the raw bytes and the signature go to `billing.webhooks.ingest`; 200 means they are committed.

No rate limit, no CORS, no login: the signature is what counts. 503 makes Stripe send again. A delivery that comes whole
and is taken is answered in front of Flask (`app.deliveries`); the others come here.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flask import Blueprint, Flask, Response, g, jsonify, request

from app.bodies import read_bytes
from app.deliveries import BUSY, EXTENSION, PATH, PATIENCE_SECONDS, REFUSED, Deliveries, Receive
from app.errors import Busy
from app.limits import Seats
from billing.services import Services
from billing.webhooks.group_commit import GroupCommit
from billing.webhooks.ingest import Status, hand_in, receive


def webhook_routes(app: Flask, services: Services, *, readers: Seats) -> None:
    """POST /webhooks/stripe."""
    settings = services.settings
    means: dict[str, Any] = {
        "secrets": tuple(secret.get_secret_value() for secret in settings.stripe_webhook_secrets),
        "queue": services.queue,
        "clock": services.clock,
        "max_bytes": settings.webhook_max_bytes,
        "together": GroupCommit(services.database),
    }

    def take(body: bytes, signature: str | None, request_id: str) -> Status:
        return receive(body, signature, database=services.database, request_id=request_id, **means)

    def take_later(
        body: bytes, signature: str | None, request_id: str, answer: Callable[[Status | Exception], None]
    ) -> None:
        hand_in(body, signature, request_id=request_id, answer=answer, **means)

    app.register_blueprint(_routes(take, readers=readers, max_bytes=settings.webhook_max_bytes))
    front = Deliveries(app, take, take_later, readers=readers, max_bytes=settings.webhook_max_bytes)
    app.wsgi_app = app.extensions[EXTENSION] = front  # type: ignore[method-assign]


def _routes(take: Receive, *, readers: Seats, max_bytes: int) -> Blueprint:
    routes = Blueprint("webhooks", __name__)

    @routes.post(PATH)
    def receive_event() -> Response:
        if REFUSED in request.environ:
            raise request.environ[REFUSED]
        with _seat(readers):
            body = read_bytes(request, max_bytes)
        g.told = True  # ingest says what became of it
        answer = jsonify(status=take(body, request.headers.get("Stripe-Signature"), g.request_id))
        answer.cache_control.no_store = True
        return answer

    return routes


@contextmanager
def _seat(readers: Seats) -> Iterator[None]:
    if not readers.sit(PATIENCE_SECONDS):
        raise Busy(BUSY)
    try:
        yield
    finally:
        readers.rise()
