"""Stripe's deliveries: the raw bytes and the signature go to `billing.webhooks.ingest`; 200 means they are committed.

No rate limit, no CORS, no login: the signature is what counts. 503 makes Stripe send again. A delivery that comes whole
and is taken is answered in front of Flask, whose dispatch costs more than all of our own steps; every other one goes
through Flask, with what was found out about it, so that there is one place for refusals.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from flask import Blueprint, Flask, Response, g, jsonify, request

from app.bodies import read_bytes
from app.errors import Busy
from app.limits import Seats
from app.security import ANSWER_HEADERS, begin
from billing.services import Services
from billing.webhooks.group_commit import GroupCommit
from billing.webhooks.ingest import receive

PATH = "/webhooks/stripe"
# Honest bodies arrive with their headers: a seat is free again within a millisecond.
PATIENCE_SECONDS = 0.02
BUSY = "Too many deliveries are being read at once. Try again."
# What was raised for a delivery in front of Flask, for the route to raise again.
REFUSED = "onelane.refused"

HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *ANSWER_HEADERS.items()]

Environ = dict[str, Any]
Status = Literal["recorded", "duplicate"]
STATUSES: tuple[Status, ...] = ("recorded", "duplicate")
Receive = Callable[[bytes, str | None, str], Status]


def webhook_routes(app: Flask, services: Services, *, readers: Seats) -> None:
    """POST /webhooks/stripe."""
    secrets = tuple(secret.get_secret_value() for secret in services.settings.stripe_webhook_secrets)
    max_bytes = services.settings.webhook_max_bytes
    together = GroupCommit(services.database)

    def take(body: bytes, signature: str | None, request_id: str) -> Status:
        return receive(
            body,
            signature,
            secrets=secrets,
            database=services.database,
            queue=services.queue,
            clock=services.clock,
            max_bytes=max_bytes,
            together=together,
            request_id=request_id,
        )

    app.register_blueprint(_routes(take, readers=readers, max_bytes=max_bytes))
    _answer_before(app, take, readers=readers, max_bytes=max_bytes)


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


def _answer_before(app: Flask, take: Receive, *, readers: Seats, max_bytes: int) -> None:
    """Answer deliveries before Flask hears of them, in the words that it would use."""
    handle = app.wsgi_app
    with app.test_request_context():
        bodies = {status: jsonify(status=status).get_data() for status in STATUSES}

    def answered(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"] != PATH or environ["REQUEST_METHOD"] != "POST" or not _fits(environ, max_bytes):
            return handle(environ, start_response)
        request_id = begin(environ.get("HTTP_REQUEST_ID", ""))
        try:
            body = _seated(readers, environ)
            answer = bodies[take(body, environ.get("HTTP_STRIPE_SIGNATURE"), request_id)]
        except Exception as error:  # noqa: BLE001 - raised again where Flask's handlers answer it
            environ |= {REFUSED: error, "HTTP_REQUEST_ID": request_id, "wsgi.input": io.BytesIO()}
            return handle(environ, start_response)
        start_response("200 OK", [*HEADERS, ("Content-Length", str(len(answer))), ("Request-Id", request_id)])
        return [answer]

    app.wsgi_app = answered  # type: ignore[method-assign]


@contextmanager
def _seat(readers: Seats) -> Iterator[None]:
    with readers.take(patience_seconds=PATIENCE_SECONDS) as seated:
        if not seated:
            raise Busy(BUSY)
        yield


def _seated(readers: Seats, environ: Environ) -> bytes:
    """The body, read in a seat; without a block, each of which costs as much as the read."""
    if not readers.sit(PATIENCE_SECONDS):
        raise Busy(BUSY)
    try:
        return _read(environ["wsgi.input"], int(environ["CONTENT_LENGTH"]))
    finally:
        readers.rise()


def _fits(environ: Environ, max_bytes: int) -> bool:
    """Whether it says how long it is, and that is not too long."""
    length: str = environ.get("CONTENT_LENGTH") or ""
    plain = length.isascii() and length.isdigit() and len(length) < 10
    return plain and int(length) <= max_bytes and "HTTP_TRANSFER_ENCODING" not in environ


def _read(stream: Any, length: int) -> bytes:
    """That many bytes, or what came before the client hung up."""
    body: bytes = stream.read(length)
    while len(body) < length and (more := stream.read(length - len(body))):
        body += more
    return body
