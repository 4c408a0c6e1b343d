"""The web server: granian, whose Rust side speaks HTTP and whose threads run our WSGI application.

A request may wait for a checkout for seconds, so there are many threads and few processes. The web holds
no Stripe key: whoever breaks into it can read and record, and cannot buy, cancel or refund.
"""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from app.later import answer_later
from billing.logs import configure_logging
from billing.process import hear_stops
from billing.run_with_parent import run_with_parent
from billing.settings import Settings

log = structlog.get_logger(__name__)

APPLICATION = "app.wsgi:application"
KEYS = ("STRIPE_API_KEY", "STRIPE_API_KEY_FILE")
STOP_SECONDS = 30  # longer than the longest wait (20 s), shorter than the grace period of the compose file (75 s)
# Granian counts connections, idle ones too: measured, 2 * threads let 128 silent clients shut everybody out.
MOST_CONNECTIONS = 8192
HEADER_MILLISECONDS = 10_000  # a client that dribbles its headers is let go
GIVEN_UP = "A process of the web died again within seconds. The web ends, for its supervisor to start it anew."


def serve(
    settings: Settings, *, workers: int, threads: int, load: Callable[..., Callable[..., Any]] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT; requests in hand are answered first. `load` gives another application.

    A process of ours that dies is started again, unless it dies again within 5.5 s. That number is granian's own, and
    not to be set: then this ends with exit code 1, and its supervisor starts it anew (WHK-97).
    """
    for name in KEYS:
        os.environ.pop(name, None)
    configure_logging(settings, process="web")
    server = Server(
        APPLICATION,
        address=settings.bind,
        port=settings.port,
        interface=Interfaces.WSGI,
        workers=workers,
        blocking_threads=threads,
        backpressure=MOST_CONNECTIONS,
        http=HTTPModes.http1,  # of HTTP/2, a body that ends early is never given up, and holds its thread for good
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        log_level=LogLevels.error,  # its warnings are about the number of threads, which is meant
        log_dictconfig=LOGGING,
        websockets=False,
    )
    try:
        server.serve(target_loader=partial(_loaded, load or _load), wrap_loader=False)
    except SystemExit:
        if server.interrupt_children:
            log.error("web.given_up", sentence=GIVEN_UP)  # noqa: TRY400  # no traceback: it says it all
        raise


def _loaded(load: Callable[..., Callable[..., Any]]) -> Callable[..., Any]:
    hear_stops()
    application = load()
    answer_later(application)
    return application


def _load() -> Callable[..., Any]:
    """Give the application, in granian's worker process (a fork or a new interpreter)."""
    run_with_parent(os.getppid())
    from app.wsgi import application

    loaded: Callable[..., Any] = application
    return loaded


# Granian configures its two loggers itself; these settings let their lines reach our handler.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "ERROR", "propagate": True}, "granian.access": {"propagate": False}},
}
