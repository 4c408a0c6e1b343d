"""Programs from npm, installed under `var/npm/` at the versions that a test names; nothing of them is committed."""

import os
import shutil
import subprocess
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "var" / "npm"
INSTALL_SECONDS = 300


class Absent(Exception):
    """A tool is not here and cannot be installed; its sentence says which and why."""


def installed(folder: Path, *packages: str) -> Path:
    """The folder, with these packages in its `node_modules`. Raises Absent."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Absent(f"{program} is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole"
    if not whole.exists():
        run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *packages)
        whole.touch()
    return folder


def run(*command: str) -> None:
    """Run an installer. Raises Absent with the last line that it said."""
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_SECONDS, env=environment)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Absent(f"{Path(command[0]).name} failed: {lines[-1]}")
