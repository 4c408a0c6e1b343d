"""A program of ours as the next version has it, with one more migration: `python -m tests.kills.newer MODULE …`."""

import os
import runpy
import sys
from pathlib import Path

from billing.database.migrations import compatibility
from tests.support.newer_version import newer_version

if __name__ == "__main__":
    compatibility.VERSIONS = newer_version(Path(os.environ["KILLS_FOLDER"]), minimum=compatibility.FIRST)
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
