"""The HTTP server: `serve` for a process of its own, `running` for a test.

Werkzeug's threaded server with a handler of ours that keeps connections alive (its own closes each), can break one
without an answer, and writes short log lines without queries. It takes 100 connections at once and more.
"""

import contextlib
import http.client
import io
import json
import logging
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import WSGIEnvironment

from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

from .core import Sandbox
from .http import DROP, create_app
from .webhooks import Endpoint

_log = logging.getLogger("sandbox")
_IDLE_SECONDS = 75  # how long a connection may wait for its next request
_LENGTH = re.compile(r"[0-9]{1,9}")
_MOST_BYTES = 4 * 1024 * 1024


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    disable_nagle_algorithm = True
    server: "_Server"

    def setup(self) -> None:
        super().setup()
        self.server.connections.add(self.connection)

    def finish(self) -> None:
        self.server.connections.discard(self.connection)
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def run_wsgi(self) -> None:
        """One request. The body is read whole before the application runs, so that the connection can be used again."""
        body = self._read_body()
        if body is None:
            self.close_connection = True
            return
        environ: WSGIEnvironment = self.make_environ()
        environ["wsgi.input"] = io.BytesIO(body)
        environ["CONTENT_LENGTH"] = str(len(body))
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            started[:] = [status, headers]
            return None

        result = self.server.app(environ, start_response)
        try:
            data = b"".join(result)
        finally:
            if hasattr(result, "close"):
                result.close()
        status, headers = started
        if any(name == DROP for name, _ in headers):
            self._break()
            return
        self._write(status, headers, data)

    def _read_body(self) -> bytes | None:
        if self.headers.get("Expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not _LENGTH.fullmatch(length) or int(length) > _MOST_BYTES:
            self._write("411 Length Required", [("Content-Type", "text/plain")], b"Send a Content-Length.\n")
            return None
        body = self.rfile.read(int(length))
        return body if len(body) == int(length) else None

    def _write(self, status: str, headers: list[tuple[str, str]], data: bytes) -> None:
        names = {name.lower() for name, _ in headers}
        lines = [f"HTTP/1.1 {status}"]
        lines += [f"{name}: {value}" for name, value in headers if name.lower() != "content-length"]
        if "date" not in names:
            lines.append(f"Date: {self.date_time_string()}")
        lines.append(f"Content-Length: {len(data)}")
        lines.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        # One write, so that a small answer is one packet.
        self.wfile.write(head if self.command == "HEAD" else head + data)
        self.wfile.flush()

    def _break(self) -> None:
        """No answer: the client sees the connection end."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        return

    def log(self, type: str, message: str, *args: Any) -> None:
        _log.debug("http.%s", type)


class _Server(ThreadedWSGIServer):
    request_queue_size = 1024
    daemon_threads = True
    block_on_close = False

    def __init__(self, host: str, port: int, app: Any) -> None:
        self.connections: set[socket.socket] = set()
        super().__init__(host, port, app, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
        if not isinstance(error, OSError | http.client.HTTPException):
            _log.error("request.failed", exc_info=error)

    def hang_up(self) -> None:
        """Ends the connections that wait for a next request, and lets their threads finish."""
        for one in list(self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        end = time.monotonic() + 0.5
        while self.connections and time.monotonic() < end:
            time.sleep(0.005)


@contextlib.contextmanager
def running(sandbox: Sandbox, *, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The sandbox behind HTTP in threads of this process, webhooks included; yields its base url."""
    server = _Server(host, port, create_app(sandbox))
    accepting = threading.Thread(target=server.serve_forever, args=(0.05,), name="sandbox-http", daemon=True)
    ticking = threading.Event()
    ticker = threading.Thread(target=_tick, args=(sandbox, ticking), name="sandbox-clock", daemon=True)
    sandbox.start()
    accepting.start()
    ticker.start()
    try:
        yield f"http://{host}:{server.port}"
    finally:
        ticking.set()
        server.shutdown()
        server.server_close()
        sandbox.stop()  # first, so that a page that waits for a webhook's answer stops waiting
        server.hang_up()
        ticker.join(0.2)
        accepting.join(0.2)


def _tick(sandbox: Sandbox, stopped: threading.Event) -> None:
    while not stopped.wait(0.5):
        sandbox.tick()


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 12111,
    state_path: str | Path | None = None,
    webhook_url: str | None = None,
    webhook_secret: str | None = None,
    seed_path: str | Path | None = None,
    public_url: str | None = None,
) -> None:
    """Runs until SIGTERM or SIGINT."""
    endpoints: Iterable[Endpoint] = ()
    if webhook_url:
        if not webhook_secret:
            raise ValueError("a webhook url needs a webhook secret")
        endpoints = (Endpoint(webhook_url, webhook_secret),)
    sandbox = Sandbox(state_path=state_path, endpoints=endpoints, public_url=public_url)
    if seed_path:
        sandbox.seed(json.loads(Path(seed_path).read_text()))
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with running(sandbox, host=host, port=port) as url:
        print(f"sandbox: {url}", flush=True)
        stopped.wait()
    sandbox.close()
