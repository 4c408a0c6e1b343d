"""How a process of ours ends: with a sentence and an exit code, and never without its parent (OPS-5, OPS-6).

0 is done, 2 a wrong command line (click's own), 69 something outside does not answer, 78 a setting is wrong.
"""

import ctypes
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from billing.errors import ConfigurationError, OnelaneError, TransientError

UNAVAILABLE = 69  # EX_UNAVAILABLE of sysexits.h
CONFIGURATION = 78  # EX_CONFIG
LINUX = platform.system() == "Linux"
_PR_SET_PDEATHSIG = 1


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


def die_with(parent: int) -> None:
    """Let this process be killed when its parent is gone, however that one went.

    On Linux the kernel does it. The signal comes when the parent's *thread* that started us ends, so a
    parent starts its children from its main thread. Elsewhere a thread of ours looks every half second.
    """
    if LINUX:
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it was gone before we asked
            os.kill(os.getpid(), signal.SIGKILL)
        return
    threading.Thread(target=_watch, args=(parent,), name="parent", daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)
