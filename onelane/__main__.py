"""`onelane`, and `python -P -m onelane`: starts a process of ours on our own packages.

An application may have folders named app, worker, billing or sandbox, too. `-P` keeps the working directory off the
import path, but PYTHONPATH may name it: such entries go behind ours before anything of ours is imported. They stay on
the path, since handlers import from them. A process that is spawned or forked inherits the path (decision 0024).
"""

import io
import os
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).resolve().parents[1]
PACKAGES = ("app", "billing", "sandbox", "worker")
LOOPBACK = ("localhost", "127.0.0.1", "127.0.0.0/8", "::1", "[::1]")
# These load nothing of the web: the `app` that a worker's handlers import is then the application's own.
WITHOUT_THE_WEB = {
    "worker": "worker.__main__:work",
    "beat": "worker.__main__:beat",
    "sandbox": "sandbox.__main__:main",
}


def main() -> None:
    """Run the command line."""
    sys.path[:] = own_first(sys.path)
    escape_output()
    spare_loopback()
    from billing.process.exits import end_on_signals

    end_on_signals()
    # Where it is set, prometheus_client maps files into memory, and a full disk ends the process (OPS-130).
    if folder := os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None):
        os.environ.setdefault("METRICS_DIR", folder)
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in WITHOUT_THE_WEB:
        module, _, command = WITHOUT_THE_WEB[name].partition(":")
        getattr(import_module(module), command)(sys.argv[2:], prog_name=f"onelane {name}")
    from app.cli import main as commands

    commands(prog_name="onelane")


def escape_output() -> None:
    """Let no command end because a terminal lacks a letter (OPS-137)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def spare_loopback() -> None:
    """Let no proxy stand between processes of this machine; calls to Stripe use it (OPS-26, OPS-132).

    The two spellings exist, and libraries differ in which of them they read.
    """
    given = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    if given.strip() != "*":
        os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join([given, *LOOPBACK] if given else LOOPBACK)


def own_first(path: list[str]) -> list[str]:
    """Give the import path with every entry that has a package of one of our names behind the folder of ours."""
    behind = [entry for entry in path if _shadows(Path(entry))]
    before = [entry for entry in path if entry not in behind]
    return [*before, *([] if str(HERE) in before else [str(HERE)]), *behind]


def _shadows(folder: Path) -> bool:
    names = [Path(name) for package in PACKAGES for name in (package, f"{package}.py")]
    return folder.resolve() != HERE and any((folder / name).exists() for name in names)


if __name__ == "__main__":
    main()
