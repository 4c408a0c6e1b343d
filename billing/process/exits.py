"""How a process of ours ends: with a sentence and an exit code (OPS-5).

0 is done, 2 a wrong command line (click's own), 69 something outside does not answer, 78 a setting is wrong.
"""

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


def exit_code(error: OnelaneError) -> int:
    """Give the exit code for an error of ours."""
    if isinstance(error, ConfigurationError | LedgerMisconfigured):
        return CONFIGURATION
    return UNAVAILABLE if isinstance(error, TransientError) else 1
