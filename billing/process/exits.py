"""How a process of ours ends: with a sentence and an exit code (OPS-5).

0 is done, 2 a wrong command line (click's own), 69 something outside does not answer, 78 a setting is wrong.
"""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from billing.errors import ConfigurationError, LedgerMisconfigured, OnelaneError, TransientError

UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
CONFIGURATION = 78  # EX_CONFIG


@contextmanager
def plain_exits() -> Iterator[None]:
    """End the process with one line on stderr, no traceback, for every error that we raise on purpose."""
    try:
        yield
    except OnelaneError as error:
        print(f"onelane: {error.for_operator}", file=sys.stderr, flush=True)
        raise SystemExit(exit_code(error)) from None


def end_on_signals() -> None:
    """Let SIGTERM and SIGHUP end this process as an exception does, until whoever serves sets handlers of its own.

    The first process of a container has no default for them: without a handler it hears nothing while it waits.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)


def hang_up_like_term() -> None:
    """Let SIGHUP do what SIGTERM does now; servers take it for "load anew" (OPS-134)."""
    signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))


def _end(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


def exit_code(error: OnelaneError) -> int:
    if isinstance(error, ConfigurationError | LedgerMisconfigured):
        return CONFIGURATION
    return UNAVAILABLE if isinstance(error, TransientError) else 1
