"""Stripe's deliveries in front of Flask, whose dispatch costs more than all of our own steps.

One that comes whole and is taken is answered here, in the words that Flask would use; every other one goes through
Flask, with what was found out about it, so that there is one place for refusals. As WSGI, a request's thread waits for
its commit. Where the server can take an answer later (`app.later`), no thread waits: a ledger that is slow then keeps
nobody else out, and no thread has to be woken, which took a fifth of the receiver's time.
"""

import io
from collections.abc import Callable, Iterable
from typing import Any

from flask import Flask, jsonify

from app.errors import Busy
from app.limits import Seats
from app.request_hooks import ANSWER_HEADERS, begin
from billing.webhooks.ingest import Status

PATH = "/webhooks/stripe"
EXTENSION = "onelane.deliveries"  # where `app.later` finds it
# Honest bodies arrive with their headers: a seat is free again within a millisecond.
PATIENCE_SECONDS = 0.02
BUSY = "Too many deliveries are being read at once. Try again."
# What was raised for a delivery in front of Flask, for the route to raise again.
REFUSED = "onelane.refused"
STATUSES: tuple[Status, ...] = ("recorded", "duplicate")
HEADERS = [("Content-Type", "application/json"), ("Cache-Control", "no-store"), *ANSWER_HEADERS.items()]

Environ = dict[str, Any]
Receive = Callable[[bytes, str | None, str], Status]
HandIn = Callable[[bytes, str | None, str, Callable[[Status | Exception], None]], None]
Answer = Callable[[int, list[tuple[str, str]], bytes], Any]


class Deliveries:
    """WSGI middleware around Flask's."""

    def __init__(self, app: Flask, receive: Receive, hand_in: HandIn, *, readers: Seats, max_bytes: int) -> None:
        self.handle = app.wsgi_app  # Flask's, for everything else
        self._receive, self._hand_in = receive, hand_in
        self._readers, self._max_bytes = readers, max_bytes
        with app.test_request_context():
            self._bodies = {status: jsonify(status=status).get_data() for status in STATUSES}

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a delivery once it is committed, and pass on everything else."""
        if not self._is_one(environ):
            return self.handle(environ, start_response)
        request_id = begin(environ.get("HTTP_REQUEST_ID", ""))
        try:
            status = self._receive(self._read(environ), environ.get("HTTP_STRIPE_SIGNATURE"), request_id)
        except Exception as error:  # noqa: BLE001 - raised again where Flask's handlers answer it
            _refuse(environ, error, request_id)
            return self.handle(environ, start_response)
        headers, body = self._answer(status, request_id)
        start_response("200 OK", headers)
        return [body]

    def take(self, environ: Environ, answer: Answer, otherwise: Callable[[], object]) -> bool:
        """Whether it is a delivery: then `answer` is called once it is committed, from any thread.

        `otherwise`: called in its place, to put the request through Flask, which says why it was refused.
        """
        if not self._is_one(environ):
            return False
        request_id = begin(environ.get("HTTP_REQUEST_ID", ""))

        def settled(outcome: Status | Exception) -> None:
            if isinstance(outcome, Exception):
                _refuse(environ, outcome, request_id)
                otherwise()
            else:
                answer(200, *self._answer(outcome, request_id))

        try:
            self._hand_in(self._read(environ), environ.get("HTTP_STRIPE_SIGNATURE"), request_id, settled)
        except Exception as error:  # noqa: BLE001 - as above
            settled(error)
        return True

    def _answer(self, status: Status, request_id: str) -> tuple[list[tuple[str, str]], bytes]:
        body = self._bodies[status]
        return [*HEADERS, ("Content-Length", str(len(body))), ("Request-Id", request_id)], body

    def _is_one(self, environ: Environ) -> bool:
        """Whether it is a delivery that says how long it is, that is not too long, and that was not refused already."""
        if environ["PATH_INFO"] != PATH or environ["REQUEST_METHOD"] != "POST" or REFUSED in environ:
            return False
        length: str = environ.get("CONTENT_LENGTH") or ""
        plain = length.isascii() and length.isdigit() and len(length) < 10
        return plain and int(length) <= self._max_bytes and "HTTP_TRANSFER_ENCODING" not in environ

    def _read(self, environ: Environ) -> bytes:
        """The body, read in a seat; without a block, each of which costs as much as the read."""
        if not self._readers.sit(PATIENCE_SECONDS):
            raise Busy(BUSY)
        try:
            return _read(environ["wsgi.input"], int(environ["CONTENT_LENGTH"]))
        finally:
            self._readers.rise()


def _refuse(environ: Environ, error: Exception, request_id: str) -> None:
    environ |= {REFUSED: error, "HTTP_REQUEST_ID": request_id, "wsgi.input": io.BytesIO()}


def _read(stream: Any, length: int) -> bytes:
    """That many bytes, or what came before the client hung up."""
    body: bytes = stream.read(length)
    while len(body) < length and (more := stream.read(length - len(body))):
        body += more
    return body
