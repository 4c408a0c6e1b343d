"""What the server runs (ASGI): deliveries on the event loop, everything else handed to Flask in a thread.

Every body is read whole first, on the loop, bounded in bytes and in time. So neither a slow body nor a delivery that
waits for its commit holds a thread, and Flask gets a whole body and gives a whole answer (`app/serving/bridge.py`).
"""

import asyncio
import io
import time
from collections.abc import Awaitable, Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http import HTTPStatus
from typing import Any

import structlog
from prometheus_client import Counter

from app.bodies.reading import MAX_BODY_BYTES
from app.errors.problems import BodyCutOff, BodyTimeout, BodyTooLarge, RateLimited
from app.errors.rendering import refusal
from app.limits.users import Refusals
from app.request_hooks import ANSWER_HEADERS, log_answer, request_id_for
from app.serving.bridge import WSGI, Answer, Fields, Headers, Scope, call_wsgi, environ_of
from app.webhooks import SIGNATURE, Deliveries, Results
from billing.errors import Busy
from billing.webhooks.endpoint import PATH

Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
REFUSED_AGAIN = Counter("onelane_refused_again_total", "Requests beyond a rate, refused without a log line.")

# An honest body comes with its headers; 5 s is for the slowest line that still has a buyer at its end.
BODY_SECONDS = 5.0
# Of all bodies together that are being read or wait for a thread: 64 of the longest.
MAX_BODIES_BYTES = 64 * 2**20
# A delivery of the usual size is checked in 0.1 ms, in less than a thread costs. Of the worst kind, 160 KB of signed
# numbers take 50 ms, in which nobody else would be served.
LONG_BYTES = 64 * 1024


class Web:
    """The ASGI application around Flask's."""

    def __init__(
        self,
        wsgi: WSGI,
        *,
        threads: int,
        deliveries: Deliveries | None = None,
        refusals: Refusals | None = None,
        origins: Collection[str] = (),
    ) -> None:
        """`origins`: whose pages may read why a request was refused. Without `deliveries`, all goes to Flask."""
        self._wsgi, self._deliveries, self._origins = wsgi, deliveries, origins
        self._refusals = refusals or Refusals()
        self._threads = ThreadPoolExecutor(threads, "web")
        self._bodies_bytes = 0
        self._results = Results()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or the server's start and end."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        headers = _headers(scope)
        if self._deliveries and scope["path"] == PATH and scope["method"] == "POST":
            status, fields, body = await self._deliver(self._deliveries, headers, receive)
        else:
            status, fields, body = await self._hand_over(scope, headers, receive)
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})

    async def _deliver(self, deliveries: Deliveries, headers: Headers, receive: Receive) -> Answer:
        started, request_id = time.monotonic(), request_id_for(headers.get("request-id", ""))
        body = b""
        try:
            signature = deliveries.expect(_length(headers), headers.get(_SIGNATURE), request_id=request_id)
            body = await self._read(headers, receive, deliveries.max_bytes)
            submit = partial(deliveries.submit, body, signature, request_id=request_id)
            loop = asyncio.get_running_loop()
            pending = submit() if len(body) <= LONG_BYTES else await loop.run_in_executor(self._threads, submit)
            row = await self._results.of(pending)
        except Exception as error:  # noqa: BLE001 - every error has its answer
            if isinstance(error, Busy):
                deliveries.note_busy()
            return _refused(error, request_id, "POST", PATH, started)
        finally:
            self._bodies_bytes -= len(body)
        fields = [*_DELIVERED, (b"request-id", request_id.encode())]
        return 200, fields, b'{"status":"duplicate"}\n' if row is None else b'{"status":"recorded"}\n'

    async def _hand_over(self, scope: Scope, headers: Headers, receive: Receive) -> Answer:
        started, body = time.monotonic(), b""

        def refuse_again() -> None:
            self._refusals.check(scope["method"], scope["path"], headers.get("authorization", ""))

        def call() -> Answer:
            refuse_again()  # of a thousand at once, the first were judged while this one waited for its thread
            return call_wsgi(self._wsgi, environ_of(scope, headers, body))

        try:
            refuse_again()
            body = await self._read(headers, receive, MAX_BODY_BYTES)
            return await asyncio.get_running_loop().run_in_executor(self._threads, call)
        except (BodyTooLarge, BodyTimeout, BodyCutOff) as error:
            refused = self._answer(error, scope, headers, started)
            # Flask counts the request, whose body ends in this error: a refused one costs what a good one does.
            environ = {**environ_of(scope, headers, b""), "wsgi.input": _RefusedBody(error)}
            counted = await asyncio.get_running_loop().run_in_executor(self._threads, call_wsgi, self._wsgi, environ)
            return counted if counted[0] == HTTPStatus.TOO_MANY_REQUESTS else refused
        except Exception as error:  # noqa: BLE001 - every error has its answer
            return self._answer(error, scope, headers, started)
        finally:
            self._bodies_bytes -= len(body)

    def _answer(self, error: Exception, scope: Scope, headers: Headers, started: float) -> Answer:
        request_id = request_id_for(headers.get("request-id", ""))
        status, fields, problem = _refused(error, request_id, scope["method"], "-", started)
        return status, fields + self._for_pages(scope, headers), problem

    async def _read(self, headers: Headers, receive: Receive, limit: int) -> bytes:
        """The whole body. Raises BodyTooLarge, BodyTimeout, BodyCutOff and Busy."""
        length = _length(headers)
        if length > limit:
            raise BodyTooLarge(limit)
        if not length and "transfer-encoding" not in headers:
            return b""
        body, whole = bytearray(), False
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while not whole:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise BodyCutOff("The body ended too early, or is not written as HTTP has it.")
                    piece = message.get("body", b"")
                    body += piece
                    self._bodies_bytes += len(piece)
                    if len(body) > limit:
                        raise BodyTooLarge(limit)
                    if self._bodies_bytes > max(MAX_BODIES_BYTES, limit):
                        raise Busy("Too many bodies are being read at once. Try again.")
                    whole = len(body) == length or not message.get("more_body", False)
        except TimeoutError:
            raise BodyTimeout(f"The body did not come whole within {BODY_SECONDS:.0f} s.") from None
        finally:
            if not whole:
                self._bodies_bytes -= len(body)
        return bytes(body)

    async def _live(self, receive: Receive, send: Send) -> None:
        """The server's start and end (lifespan): at the end, what waits for the ledger is committed."""
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown":
                if self._deliveries:
                    await asyncio.to_thread(self._deliveries.close)
                self._threads.shutdown(wait=False)
                await send({"type": "lifespan.shutdown.complete"})
                return
            await send({"type": "lifespan.startup.complete"})

    def _for_pages(self, scope: Scope, headers: Headers) -> Fields:
        """What lets a page of ours read a refusal that Flask never saw (CORS)."""
        origin = headers.get("origin", "")
        if origin not in self._origins or not scope["path"].startswith("/v1/"):
            return []
        exposed = {
            "Access-Control-Expose-Headers": "Retry-After, RateLimit, RateLimit-Policy, Request-Id",
            "Vary": "Origin",
        }
        return _encoded({"Access-Control-Allow-Origin": origin, **exposed})


class _RefusedBody(io.RawIOBase):
    """A body that whoever reads it finds refused."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def read(self, size: int = -1) -> bytes:
        """Raises why it was refused."""
        del size
        raise self._error


def _refused(error: Exception, request_id: str, method: str, route: str, started: float) -> Answer:
    structlog.contextvars.bind_contextvars(request_id=request_id)
    rendered = refusal(error, request_id=request_id)
    if isinstance(error, RateLimited):  # again: a log line takes three times as long as the rest
        REFUSED_AGAIN.inc()
    else:
        log_answer(method, route, rendered.status, started=started)
    return rendered.status, _encoded({**rendered.headers, **ANSWER_HEADERS, "Request-Id": request_id}), rendered.body


def _headers(scope: Scope) -> Headers:
    """The request's headers by their names in lower case; those that came twice are one, as PEP 3333 has it."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key, text = name.decode("latin-1"), value.decode("latin-1")
        found[key] = f"{found[key]}{';' if key == 'cookie' else ','}{text}" if key in found else text
    return found


def _length(headers: Headers) -> int:
    """What the request says about its body's length; the server has refused what is no number."""
    text = headers.get("content-length", "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _encoded(headers: Headers) -> Fields:
    return [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]


_SIGNATURE = SIGNATURE.lower()
_DELIVERED = _encoded({"Content-Type": "application/json", "Cache-Control": "no-store", **ANSWER_HEADERS})
