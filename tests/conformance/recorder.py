"""An HTTP server between Stripe's programs and the sandbox: passes each request on, and keeps what was answered."""

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_PASSED_ON = ("authorization", "content-type", "idempotency-key", "stripe-version", "stripe-account")


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and its answer."""

    method: str
    path: str  # without the query
    status: int
    answer: Any


@dataclass
class Recorder:
    url: str
    exchanges: list[Exchange] = field(default_factory=list)


@contextmanager
def recording(target: str) -> Iterator[Recorder]:
    """A recorder in front of `target`, on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name: value for name, value in self.headers.items() if name.lower() in _PASSED_ON}
            data = body if self.command == "POST" else None
            request = urllib.request.Request(target + self.path, data, headers, method=self.command)
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    status, sent, answered = response.status, response.headers, response.read()
            except urllib.error.HTTPError as error:
                status, sent, answered = error.code, error.headers, error.read()
            with self.server.lock:  # type: ignore[attr-defined]
                path = self.path.partition("?")[0]
                recorder.exchanges.append(Exchange(self.command, path, status, json.loads(answered)))
            self.send_response(status)
            for name in ("Content-Type", "Request-Id", "Stripe-Version", "Idempotent-Replayed"):
                if name in sent:
                    self.send_header(name, sent[name])
            self.send_header("Content-Length", str(len(answered)))
            self.end_headers()
            self.wfile.write(answered)

        do_GET = do_POST = do_DELETE = _pass_on

        def log_message(self, format: str, *args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.lock = threading.Lock()  # type: ignore[attr-defined]
    recorder = Recorder(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield recorder
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
