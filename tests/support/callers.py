"""The two callers of the door: Flask's route, as any WSGI server runs it, and the ASGI application of the shipped one.

`over` puts either behind Flask's own test client; `Request` is one request over ASGI, as a server hands it over.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

from flask import Flask

from app import webhooks
from app.limits import users
from app.serving.asgi import Web

CALLERS = ("wsgi", "asgi")
PIECE = 1 << 16
Message = Mapping[str, Any]


def over(caller: str, app: Flask) -> Flask:
    """The same application, called that way from here on."""
    if caller == "asgi":
        app.wsgi_app = _as_wsgi(asgi(app))  # type: ignore[method-assign]
    return app


def asgi(app: Flask, **more: Any) -> Web:
    """The ASGI application around this one."""
    deliveries, refusals = app.extensions[webhooks.EXTENSION], app.extensions[users.EXTENSION]
    return Web(app.wsgi_app, threads=2, deliveries=deliveries, refusals=refusals, **more)


class Request:
    """A request over ASGI: its body's pieces as they come, and then either its end or, unfinished, the client's."""

    def __init__(
        self,
        method: str,
        path: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        pieces: Iterable[bytes] | AsyncIterator[bytes] = (),
        unfinished: bool = False,
        **scope: Any,
    ) -> None:
        raw, _, query = path.partition("?")
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(raw, errors="replace"),
            "raw_path": raw.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
            "client": ("192.0.2.7", "40000"),
            "server": ("192.0.2.1", "8000"),
            **scope,
        }
        self.asked = 0  # how often the application asked for more
        self.sent: list[Message] = []
        self._pieces = pieces if isinstance(pieces, AsyncIterator) else _each(pieces)
        self._unfinished = unfinished

    @property
    def status(self) -> int:
        return int(self.sent[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode().lower(): value.decode("latin-1") for name, value in self.sent[0]["headers"]}

    @property
    def body(self) -> bytes:
        return bytes(self.sent[1]["body"])

    def run(self, web: Web) -> "Request":
        """To its end, on a loop of its own."""
        asyncio.run(self.go(web))
        return self

    async def go(self, web: Web) -> None:
        async def receive() -> Message:
            self.asked += 1
            async for piece in self._pieces:
                return {"type": "http.request", "body": piece, "more_body": True}
            if self._unfinished:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await web(self.scope, receive, send)


async def _each(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def _as_wsgi(web: Web) -> Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]:
    def called(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"].encode("latin-1")
        names = {"CONTENT_TYPE": "content-type", "CONTENT_LENGTH": "content-length"}
        fields = {names.get(name, name[5:].replace("_", "-")): value for name, value in environ.items()
                  if (name in names and value) or name.startswith("HTTP_")}  # fmt: skip
        length = int(environ.get("CONTENT_LENGTH") or 0)
        count = 0

        def pieces() -> Iterable[bytes]:
            nonlocal count
            while piece := environ["wsgi.input"].read(PIECE):
                count += len(piece)
                request._unfinished = count < length
                yield piece

        request = Request(
            environ["REQUEST_METHOD"],
            f"{quote(path)}?{environ['QUERY_STRING']}",
            headers=fields.items(),
            pieces=pieces(),
            unfinished=length > 0,
            scheme=environ["wsgi.url_scheme"],
            client=(environ["REMOTE_ADDR"], "40000"),
        )
        request.run(web)
        given = [(name.decode(), value.decode("latin-1")) for name, value in request.sent[0]["headers"]]
        start_response(f"{request.status} Whatever", given)
        return [request.body]

    return called
