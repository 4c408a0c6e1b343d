"""Runs a command that is killed when its starter is gone: `python -I -S leash.py STARTER_PID COMMAND…` (OPS-6).

On Linux the kernel is asked and this process becomes the command. Elsewhere it stays beside the command
and looks for its starter. Imports nothing of ours: it runs before every child of `onelane dev`.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
LOOK_SECONDS = 0.2


def main(starter: int, command: list[str], platform: str = sys.platform) -> int:
    """Become the command (Linux), or run it and give back its exit code."""
    if platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != starter:  # it went before we asked
            return 1
        os.execvp(command[0], command)  # noqa: S606  # no shell wanted
    child = subprocess.Popen(command)  # noqa: S603  # the supervisor's own command
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: child.send_signal(number))
    while child.poll() is None:
        if os.getppid() != starter:
            child.kill()
        time.sleep(LOOK_SECONDS)
    return child.returncode if child.returncode >= 0 else 128 - child.returncode


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
