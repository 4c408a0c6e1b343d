"""`make bench` and `make soak` leave nothing running, however they end."""

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from billing.process.run_with_parent import launched
from tests.support.running_dev import ROOT, descendants, environment, running, wait_until

COMMANDS = {"bench": (["tests.bench"], 2), "soak": (["tests.kills.soak", "5", "20"], 8)}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda number: number.name)
@pytest.mark.parametrize("name", COMMANDS)
def test_nothing_runs_on_once_it_was_stopped(name: str, number: signal.Signals) -> None:
    """OPS-6"""
    module, children = COMMANDS[name]
    folder = Path(tempfile.mkdtemp())  # short: PostgreSQL's socket is in it
    folder.chmod(0o755)  # and PostgreSQL runs as somebody else
    with (folder / "output").open("wb") as output:
        command = launched([sys.executable, "-m", *module])
        process = subprocess.Popen(command, cwd=ROOT, env=environment(TMPDIR=str(folder)), stdout=output, stderr=output)
    try:
        wait_until(
            lambda: len(descendants(process.pid)) >= children or process.poll() is not None,
            lambda: (folder / "output").read_text("utf-8"),
            60,
        )
        assert process.poll() is None, (folder / "output").read_text("utf-8")
        left = descendants(process.pid) + [int(path.read_text("utf-8").split()[0]) for path in folder.glob("*/*.pid")]
        assert name != "soak" or any(path.name == "postmaster.pid" for path in folder.glob("*/*.pid"))
        process.send_signal(number)
        process.wait(150)  # on a busy machine each of a dozen processes takes seconds to stop
        wait_until(lambda: not running(left), lambda: f"left: {running(left)}", 60)
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
