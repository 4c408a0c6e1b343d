"""Stripe's deliveries: the raw bytes and the signature go to `billing.webhooks.ingest`; 200 means they are committed.

No rate limit, no CORS, no login: the signature is what counts. 503 makes Stripe send again. Here is the route for any
WSGI server, whose thread waits for the commit; the shipped server awaits the same future (`app/serving/asgi.py`).
"""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from flask import Flask, Response, g, jsonify, request

from app.bodies.reading import read_bytes
from billing.errors import Busy, LedgerUnavailable
from billing.services import Services
from billing.webhooks.endpoint import PATH
from billing.webhooks.group_commit import Row
from billing.webhooks.ingest import Ingest
from billing.webhooks.signature import Signature

T = TypeVar("T")
EXTENSION = "onelane.deliveries"  # where `app/serving/asgi.py` finds them
SIGNATURE = "Stripe-Signature"
# Stripe hears within 3 s that it has to send again. Whatever the ledger does: a commit takes 20 ms.
WAIT_SECONDS = 2.5
TOO_LONG = "The ledger takes too long. Try again."
# A process that has taken no delivery for so long, and refused some, is not ready; so long after the last one it is.
BUSY_SECONDS = 3.0


class Deliveries:
    """The deliveries of one process, whichever way they come."""

    def __init__(self, services: Services, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        settings = services.settings
        self.max_bytes = settings.webhook_max_bytes
        self._monotonic = monotonic
        self._refused: tuple[float, float] | None = None  # when the first and the last were since one was taken
        self._ingest = Ingest(
            secrets=tuple(secret.get_secret_value() for secret in settings.stripe_webhook_secrets),
            database=services.database,
            queue=services.queue,
            clock=services.clock,
            max_bytes=settings.webhook_max_bytes,
        )
        self.expect, self.close = self._ingest.expect, self._ingest.close

    def submit(self, body: bytes, signature: Signature, *, request_id: str) -> "Future[Row]":
        """Hand a whole delivery in. Raises InvalidSignature, InvalidEvent, PayloadTooLarge and Busy."""
        try:
            future = self._ingest.submit(body, signature, request_id=request_id)
        except Busy:
            self.note_busy()
            raise
        self._refused = None
        return future

    def note_busy(self) -> None:
        """One was refused for want of room."""
        now = self._monotonic()
        self._refused = (self._refused[0] if self._refused else now, now)

    @property
    def are_refused(self) -> bool:
        """Whether all have been refused for want of room, for some seconds until now (for /readyz)."""
        if self._refused is None:
            return False
        first, last = self._refused
        return last - first >= BUSY_SECONDS and self._monotonic() - last < BUSY_SECONDS


class Results:
    """Results of other threads' futures on one event loop: those that come together wake it once.

    `asyncio.wrap_future` wakes the loop for each, and takes 12 µs; a commit resolves some thirty at one instant.
    """

    def __init__(self) -> None:
        self._guard = threading.Lock()  # of the next one, held for a moment
        self._done: list[asyncio.Future[None]] = []

    async def of(self, future: "Future[T]") -> T:
        """The future's result, or its error. Who stops waiting cancels it, unless it runs."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        future.add_done_callback(partial(self._note, loop, waiter))
        try:
            await waiter
        except asyncio.CancelledError:
            future.cancel()
            raise
        return future.result()

    def _note(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None], _future: "Future[Any]") -> None:
        """In whichever thread resolved it."""
        with self._guard:
            first = not self._done
            self._done.append(waiter)
        if first:
            loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        with self._guard:
            done, self._done = self._done, []
        for waiter in done:
            if not waiter.done():
                waiter.set_result(None)


def webhook_routes(app: Flask, services: Services) -> Deliveries:
    """POST /webhooks/stripe."""
    deliveries = app.extensions[EXTENSION] = Deliveries(services)

    @app.post(PATH)
    def receive_event() -> Response:
        header, length = request.headers.get(SIGNATURE), request.content_length or 0
        signature = deliveries.expect(length, header, request_id=g.request_id)
        body = read_bytes(request, deliveries.max_bytes)
        future = deliveries.submit(body, signature, request_id=g.request_id)
        try:
            row = future.result(WAIT_SECONDS)
        except TimeoutError:
            future.cancel()  # where it still waits for its turn, for nobody
            raise LedgerUnavailable(TOO_LONG) from None
        g.logged = True  # ingest says what became of it
        answer = jsonify(status="duplicate" if row is None else "recorded")
        answer.cache_control.no_store = True
        return answer

    return deliveries
