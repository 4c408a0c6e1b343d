"""How a process hears that it shall stop, in processes of their own."""

import signal
import subprocess
import sys

import pytest

from tests.support.running_dev import ROOT

# The main thread waits for a lock, as granian's does; others are busy, and would be given the signal now and then.
WEB = """
import os, signal, sys, threading, time
from billing.process import STOPS, hear_stops

number, early = int(sys.argv[1]), sys.argv[2] == "early"
hear_stops()
masks, stopped = [], threading.Event()

def work():
    masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    while not stopped.is_set():
        sum(range(1000))

for _ in range(3):
    threading.Thread(target=work).start()
if early:
    os.kill(os.getpid(), number)
    time.sleep(0.1)
heard = []
def stop(number, frame):
    heard.append(number)
    stopped.set()
signal.signal(number, stop)
if not early:
    os.kill(os.getpid(), number)
stopped.wait()
os.kill(os.getpid(), number)  # told again: granian's third of them would wait for ever
time.sleep(0.1)
print([int(one) for one in heard], all(mask >= set(STOPS) for mask in masks))
"""


@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_is_heard_once_whatever_the_threads_do(number: signal.Signals, when: str) -> None:
    """OPS-63: also where it comes before the server has set its handler."""
    told = subprocess.run(
        [sys.executable, "-c", WEB, str(int(number)), when],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (told.returncode, told.stdout, told.stderr) == (0, f"[{int(number)}] True\n", "")
