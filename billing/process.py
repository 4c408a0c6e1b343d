"""How a process of ours ends: with a sentence and an exit code (OPS-5).

0 is done, 2 a wrong command line (click's own), 69 something outside does not answer, 78 a setting is wrong.
"""

import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from billing.errors import ConfigurationError, OnelaneError, TransientError

UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
CONFIGURATION = 78  # EX_CONFIG
STOPS = (signal.SIGTERM, signal.SIGINT)


@contextmanager
def plain_exits() -> Iterator[None]:
    """End the process with one line on stderr, no traceback, for every error that we raise on purpose."""
    try:
        yield
    except OnelaneError as error:
        print(f"onelane: {error.sentence}", file=sys.stderr, flush=True)
        raise SystemExit(exit_code(error)) from None


def exit_code(error: OnelaneError) -> int:
    """Give the exit code for an error of ours."""
    if isinstance(error, ConfigurationError):
        return CONFIGURATION
    return UNAVAILABLE if isinstance(error, TransientError) else 1


def hear_stops() -> None:
    """Let a thread of its own hear this process's signals to stop, and call their handler, once.

    Python runs a handler in the main thread. Where the kernel gives the signal to another thread, as it does now and
    then in a busy process, a main thread that waits for a lock goes on waiting: measured, 4 of 8 stops of a web with
    deliveries in hand were not heard until the kill after 30 s. Call it in the main thread, before there are others:
    they inherit that they do not get the signals. Whoever sets a handler afterwards must let any thread call it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
    inherited = {number: signal.getsignal(number) for number in STOPS}
    threading.Thread(target=_hear, args=(inherited,), name="stops", daemon=True).start()


def _hear(inherited: Mapping[int, object]) -> None:
    number = signal.sigwait(STOPS)
    while (handler := signal.getsignal(number)) == inherited[number]:
        time.sleep(0.02)  # it came while the process still starts
    if callable(handler):
        handler(number, None)
