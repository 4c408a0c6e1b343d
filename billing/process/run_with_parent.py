"""A process that is killed when its parent is gone, however that one ended (OPS-6).

A process of ours calls `run_with_parent`. Any other command is started as `launched(command)` says: this file runs
first and becomes the command, so it imports nothing of ours.

On Linux the kernel sends the signal, also after an exec. It does so when the *thread* that started the process ends, so
a parent starts its children from its main thread. Elsewhere a thread looks for the parent.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.2


def run_with_parent(parent: int, *, end: Callable[[], None] | None = None, platform: str = sys.platform) -> None:
    """Let this process be killed, or `end` be called, once the parent is gone."""
    end = end or (lambda: os.kill(os.getpid(), signal.SIGKILL))
    if platform != "linux":
        threading.Thread(target=_watch, args=(parent, end), name="parent", daemon=True).start()
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it ended before the kernel was asked
        end()


def launched(command: Sequence[str]) -> list[str]:
    """Give the command line of a command that is killed when this process is gone."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *command]


def main(parent: int, command: list[str], platform: str = sys.platform) -> int:
    """Become the command (Linux), or run it beside this process and give its exit code."""
    if platform == "linux":
        run_with_parent(parent)
        os.execvp(command[0], command)  # noqa: S606  # no shell wanted
    child = subprocess.Popen(command)  # noqa: S603  # the parent's own command
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    run_with_parent(parent, end=child.kill, platform=platform)
    code = child.wait()
    return code if code >= 0 else 128 - code


def _watch(parent: int, end: Callable[[], None]) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_SECONDS)
    end()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
