"""Become one of the receivers. Imports what `onelane web` does and no more, so that its memory is that of the web."""

import sys
from functools import partial
from importlib import import_module
from typing import Any

from app.serving.server import load_web
from app.serving.server import serve as serve_until_stopped
from billing.process.settings import load_settings

THREADS = 160  # as many as `onelane web` has


def serve(application: str, port: int) -> None:
    """Become the server: that of `onelane web`, over this application."""
    load = load_web if application == "app.serving.server" else partial(_load_other, application)
    serve_until_stopped(load_settings(port=port, stripe_api_key=None), workers=1, threads=THREADS, load=load)


def _load_other(application: str, threads: int) -> Any:
    """Flask behind the same bridge, which serves it faster than granian's own WSGI."""
    from app.serving.asgi import Web

    return Web(import_module(application).application, threads=threads)


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
