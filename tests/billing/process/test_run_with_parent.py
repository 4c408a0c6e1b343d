"""Processes that are killed when their parent is gone."""

import subprocess
import sys

import pytest

from tests.support.running_dev import ROOT, descendants, running, wait_until

PARENT = """
import os, sys, time
from billing.process import run_with_parent

parent = os.getpid()
os.fork() or sys.exit(run_with_parent.main(parent, ["sleep", "60"], sys.argv[1]))
time.sleep(60)
"""


@pytest.mark.parametrize(("platform", "processes"), [("linux", 1), ("darwin", 2)])
def test_command_is_killed_with_its_parent(platform: str, processes: int) -> None:
    """OPS-6: by the kernel, or by a process that stays beside the command."""
    if platform == "linux" != sys.platform:
        pytest.skip("the kernel's help is Linux'")
    parent = subprocess.Popen([sys.executable, "-c", PARENT, platform], cwd=ROOT)
    below: list[int] = []
    try:
        wait_until(lambda: len(descendants(parent.pid)) == processes, lambda: f"{processes} below {parent.pid}")
        below = descendants(parent.pid)
    finally:
        parent.kill()
        parent.wait()
    wait_until(lambda: not running(below), lambda: f"left: {running(below)}")
