"""Stripe's deliveries: the raw bytes and the signature go to `billing.webhooks.ingest`; 200 means they are committed.

No rate limit, no CORS, no login: the signature is what counts. 503 makes Stripe send again. Here is the route for any
WSGI server, whose thread waits for the commit; the shipped server awaits the same batch (`app/serving/asgi.py`).
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from flask import Flask, Response, g, jsonify, request

from app.bodies.reading import read_bytes
from billing.errors import Busy, LedgerUnavailable
from billing.services import Services
from billing.webhooks.endpoint import PATH
from billing.webhooks.group_commit import Outcomes, Pending, Row
from billing.webhooks.ingest import Ingest
from billing.webhooks.signature import Signature

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

    def submit(self, body: bytes, signature: Signature, *, request_id: str) -> Pending:
        """Hand a whole delivery in. Raises InvalidSignature, InvalidEvent, PayloadTooLarge and Busy."""
        try:
            pending = self._ingest.submit(body, signature, request_id=request_id)
        except Busy:
            self.note_busy()
            raise
        self._refused = None
        return pending

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
    """Rows of deliveries on one event loop, which each batch wakes once, and which has one timer for all of a batch.

    `asyncio.wrap_future` and a time-out for each delivery took 16 µs; a commit resolves some thirty at one instant.
    """

    def __init__(self) -> None:
        # Of each batch who waits for it, and until when by the loop's time; and the timer for the first of them.
        self._waiting: dict[Future[Outcomes], deque[tuple[asyncio.Future[Outcomes], float]]] = {}
        self._timers: dict[Future[Outcomes], asyncio.TimerHandle] = {}

    async def of(self, pending: Pending) -> Row:
        """The row. Raises what kept it out of the ledger, and LedgerUnavailable after WAIT_SECONDS."""
        loop, batch = asyncio.get_running_loop(), pending.batch
        waiter: asyncio.Future[Outcomes] = loop.create_future()
        waiting = self._waiting.get(batch)
        if waiting is None:
            waiting = self._waiting[batch] = deque()
            self._timers[batch] = loop.call_later(WAIT_SECONDS, self._give_up, loop, batch)
            batch.add_done_callback(lambda done: loop.call_soon_threadsafe(self._wake, done))
        waiting.append((waiter, loop.time() + WAIT_SECONDS))
        return pending.row(await waiter)

    def _wake(self, batch: "Future[Outcomes]") -> None:
        if timer := self._timers.pop(batch, None):
            timer.cancel()
        for waiter, _ in self._waiting.pop(batch, ()):
            if not waiter.done():  # else whoever waited is gone
                waiter.set_result(batch.result())

    def _give_up(self, loop: asyncio.AbstractEventLoop, batch: "Future[Outcomes]") -> None:
        waiting = self._waiting[batch]
        while waiting and waiting[0][1] <= loop.time():
            waiter, _ = waiting.popleft()
            if not waiter.done():
                waiter.set_exception(LedgerUnavailable(TOO_LONG))
        if waiting:
            self._timers[batch] = loop.call_at(waiting[0][1], self._give_up, loop, batch)
        else:
            del self._waiting[batch], self._timers[batch]


def webhook_routes(app: Flask, services: Services) -> Deliveries:
    """POST /webhooks/stripe."""
    deliveries = app.extensions[EXTENSION] = Deliveries(services)

    @app.post(PATH)
    def receive_event() -> Response:
        header, length = request.headers.get(SIGNATURE), request.content_length or 0
        signature = deliveries.expect(length, header, request_id=g.request_id)
        body = read_bytes(request, deliveries.max_bytes)
        pending = deliveries.submit(body, signature, request_id=g.request_id)
        try:
            row = pending.result(WAIT_SECONDS)
        except TimeoutError:
            raise LedgerUnavailable(TOO_LONG) from None
        g.logged = True  # ingest says what became of it
        answer = jsonify(status="duplicate" if row is None else "recorded")
        answer.cache_control.no_store = True
        return answer

    return deliveries
