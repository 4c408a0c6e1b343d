"""The web server: granian, whose Rust side speaks HTTP and calls our application (ASGI) on an event loop.

A request may wait for a checkout for seconds, so Flask has many threads, and there are few processes. The web holds
no Stripe key: an attacker who controls it can read and record, and cannot buy, cancel or refund.
"""

import os
import resource
import signal
import socket
import stat
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.log import LogLevels
from granian.server import Server

from billing.process.exits import hang_up_like_term, plain_exits
from billing.process.logs import configure_logging
from billing.process.run_with_parent import run_with_parent
from billing.process.settings import Settings, load_settings
from billing.process.unsafe_settings import shop_is_on

if TYPE_CHECKING:
    from app.serving.asgi import Web

log = structlog.get_logger(__name__)

KEYS = ("STRIPE_API_KEY", "STRIPE_API_KEY_FILE")
STOP_SECONDS = 30  # longer than the longest wait (20 s), shorter than the grace period of the compose file (75 s)
# Granian counts connections, idle ones too; beyond them, new ones wait to be accepted.
MOST_CONNECTIONS = 8192
OWN_FILES = 256  # descriptors that are no connection: the ledger's, Redis', files
HEADER_BYTES = 64 * 1024  # what a connection may have buffered before it is a request
LOOK_SECONDS = 0.1
GIVEN_UP = "A process of the web died again within seconds. The web ends, for its supervisor to start it anew."


def serve(settings: Settings, *, workers: int, threads: int, load: "Callable[[int], Web] | None" = None) -> None:
    """Serve until SIGTERM or SIGINT; requests in hand are answered first. `load` gives another application.

    A process of ours that dies is started again, unless it dies again within 5.5 s. That number is granian's own, and
    not to be set: then this ends with exit code 1, and its supervisor starts it anew (WHK-97).
    """
    for name in KEYS:
        os.environ.pop(name, None)
    configure_logging(settings, process="web")
    server = Server(
        "app.serving.server",  # what it is called; the application comes from target_loader
        address=settings.bind,
        port=settings.port,
        interface=Interfaces.ASGI,
        workers=workers,
        backpressure=min(MOST_CONNECTIONS, max(1, raise_file_limit() - OWN_FILES)),
        # Of HTTP/2, a body that ends early is never given up, and whoever proxies or delivers speaks HTTP/1.1.
        http=HTTPModes.http1,
        # The timeout begins when a connection may send its next request, so that it ends idle and silent ones, too.
        http1_settings=HTTP1Settings(
            header_read_timeout=settings.keep_alive_seconds * 1000, max_buffer_size=HEADER_BYTES
        ),
        respawn_failed_workers=True,
        workers_kill_timeout=STOP_SECONDS,
        log_level=LogLevels.error,
        log_dictconfig=LOGGING,
        websockets=False,
    )
    server.on_startup(hang_up_like_term)
    try:
        loader = partial(_loaded, load or load_web, threads, os.getpid(), settings.keep_alive_seconds)
        server.serve(target_loader=loader, wrap_loader=False)
    except SystemExit:
        if server.interrupt_children:
            log.error("web.given_up", sentence=GIVEN_UP)  # noqa: TRY400  # no traceback: it says it all
        raise


def load_web(threads: int) -> "Web":
    """The application of one process; ONELANE_SHOP=1 (set by `onelane dev`) adds the shop page."""
    # Here: the parent process needs none of it.
    from app import create_app, webhooks
    from app.limits import users
    from app.serving.asgi import Web
    from billing.operators.presence import Heartbeat
    from billing.process.telemetry import start_telemetry
    from billing.services import build_services

    with plain_exits():
        # None: the web holds no key, even where .env or a running `onelane dev` names one.
        settings = load_settings(stripe_api_key=None)
        configure_logging(settings, process="web")
        services = build_services(settings)
        app = create_app(settings, services, shop=shop_is_on())
        start_telemetry(settings, process="web", flask=app)
    Heartbeat(services.database, kind="web", threads=threads, neighbours=services.neighbours).start()
    deliveries, refusals = app.extensions[webhooks.EXTENSION], app.extensions[users.EXTENSION]
    return Web(app, threads=threads, deliveries=deliveries, refusals=refusals, origins=settings.redirect_origins)


def _drop_who_reads_nothing(seconds: int) -> None:
    """Have the kernel close each connection whose client takes none of its answers for so long (API-111).

    The server would wait for such a client for ever: it is not idle. A connection has this from the socket that
    listens, which granian opens for itself soon after this thread has begun. Elsewhere than on Linux nothing is done.
    """
    ports: set[int] = set()
    while hasattr(socket, "TCP_USER_TIMEOUT") and not ports:
        time.sleep(LOOK_SECONDS)
        for _ in range(2):  # once more, for those that came before
            for number in filter(_is_socket, map(int, os.listdir("/proc/self/fd"))):
                with suppress(OSError), socket.socket(fileno=os.dup(number)) as one:
                    port = one.getsockname()[1] if one.family in (socket.AF_INET, socket.AF_INET6) else None
                    if port and one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        ports.add(port)
                    if port in ports:
                        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, seconds * 1000)


def _is_socket(number: int) -> bool:
    try:
        return stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:  # closed meanwhile
        return False


def raise_file_limit() -> int:
    """Let this process, and those that it starts, have as many files open as they may; how many that are."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS has a hard limit that it does not let anybody have
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_CONNECTIONS + OWN_FILES if soft == resource.RLIM_INFINITY else soft


def _loaded(load: "Callable[[int], Web]", threads: int, parent: int, patience_seconds: int) -> "Web":
    """In granian's worker process (a fork or a new interpreter)."""
    run_with_parent(parent)
    # Until the server listens for them itself, a fork has its parent's handlers. They would hear a stop for nobody, and
    # the process would be killed after STOP_SECONDS. Nothing is in hand yet, so it may end at once.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a closed terminal tells all of them; the parent stops them in order
    threading.Thread(target=_drop_who_reads_nothing, args=(patience_seconds,), name="listening", daemon=True).start()
    return load(threads)


# Granian configures its two loggers itself; these settings let their lines reach our handler.
LOGGING: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {},
    "handlers": {},
    "loggers": {"_granian": {"level": "ERROR", "propagate": True}, "granian.access": {"propagate": False}},
}
