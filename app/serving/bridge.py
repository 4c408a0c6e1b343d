"""The bridge between the two standards: a request that came by ASGI 3, answered by a WSGI application (PEP 3333).

The body is here as a whole before the call, and the answer is whole after it. So a bridge needs no thread of its own.
"""

import io
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import unquote_to_bytes

Scope = Mapping[str, Any]
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
Headers = Mapping[str, str]
Fields = list[tuple[bytes, bytes]]
Answer = tuple[int, Fields, bytes]


def environ_of(scope: Scope, headers: Headers, body: bytes) -> dict[str, Any]:
    """The request as WSGI has it: with a body that is here, and no header that could be taken for another one."""
    root = scope.get("root_path", "").encode().decode("latin-1")
    path = unquote_to_bytes(scope.get("raw_path") or scope["path"]).decode("latin-1")
    host, port = scope.get("server") or ("localhost", None)
    found = {
        "REQUEST_METHOD": scope["method"],
        "SCRIPT_NAME": root,
        "PATH_INFO": path.removeprefix(root),
        "QUERY_STRING": scope["query_string"].decode("latin-1"),
        "SERVER_NAME": host,
        "SERVER_PORT": str(port or ""),
        "SERVER_PROTOCOL": "HTTP/1.0" if scope["http_version"] in ("1", "1.0") else f"HTTP/{scope['http_version']}",
        "REMOTE_ADDR": (scope.get("client") or ("",))[0],
        "CONTENT_TYPE": headers.get("content-type", ""),
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope["scheme"],
        "wsgi.input": io.BytesIO(body),
        "wsgi.input_terminated": True,
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    for name, value in headers.items():
        if "_" not in name and name not in ("content-type", "content-length", "transfer-encoding"):
            found[f"HTTP_{name.replace('-', '_').upper()}"] = value
    return found


def call_wsgi(wsgi: WSGI, asked: dict[str, Any]) -> Answer:
    """Flask's whole answer."""
    answers: list[tuple[str, list[tuple[str, str]]]] = []
    written: list[bytes] = []

    def start_response(status: str, fields: list[tuple[str, str]], _error: object = None) -> Callable[[bytes], None]:
        answers.append((status, fields))
        return written.append

    pieces = wsgi(asked, start_response)
    try:
        body = b"".join([*written, *pieces])
    finally:
        getattr(pieces, "close", lambda: None)()
    status, fields = answers[-1]
    return int(status[:3]), [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields], body
