"""The start of our processes in a folder whose own packages have our names."""

import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

import onelane
from app.cli import COMMANDS
from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.notifications import handlers
from billing.process.run_with_parent import launched
from onelane.__main__ import HERE, PACKAGES, WITHOUT_THE_WEB, own_first
from tests.support.ports import own_port
from tests.support.running_dev import ROOT, environment, wait_until
from tests.support.web import JWT_SECRET

ONELANE = [sys.executable, "-P", "-m", "onelane"]
SCRIPT = Path(sys.executable).with_name("onelane")
Put = Callable[[Path], None]


def packages(folder: Path) -> None:
    """Packages that end a process that imports one of them."""
    for name in PACKAGES:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise SystemExit('the {name} of somebody else')\n", "utf-8")


def folders(folder: Path) -> None:
    """Folders without an `__init__.py`: Python imports them, too."""
    for name in PACKAGES:
        (folder / name).mkdir()


def modules(folder: Path) -> None:
    """Files, such as the app.py of a small Flask application."""
    for name in PACKAGES:
        (folder / f"{name}.py").write_text(f"raise SystemExit('the {name} of somebody else')\n", "utf-8")


@pytest.fixture(params=[packages, folders, modules])
def foreign(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder with code of somebody else under our names."""
    put: Put = request.param
    put(tmp_path)
    return tmp_path


def shadowed(**settings: str) -> dict[str, str]:
    """An environment that has the working directory first on the import path."""
    return environment(PYTHONPATH=f".{os.pathsep}{ROOT}", **settings)


@pytest.mark.parametrize("words", [["--version"], ["worker", "--help"]], ids=["web", "worker"])
def test_process_loads_our_packages(foreign: Path, words: list[str]) -> None:
    """OPS-76"""
    ended = subprocess.run([*ONELANE, *words], cwd=foreign, env=shadowed(), capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "onelane" in ended.stdout


@pytest.mark.skipif(not SCRIPT.exists(), reason="onelane is not installed here")
@pytest.mark.parametrize("safe", ["", "1"], ids=["", "safe path"])
def test_installed_command_loads_our_packages(tmp_path: Path, safe: str) -> None:
    """OPS-76"""
    packages(tmp_path)
    settings = shadowed(PYTHONSAFEPATH=safe)
    ended = subprocess.run([SCRIPT, "--version"], cwd=tmp_path, env=settings, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_processes_of_the_web_load_our_packages(tmp_path: Path) -> None:
    """OPS-76: those that granian starts, each as a new interpreter where there are several."""
    packages(tmp_path)
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    port = own_port()
    ledger = Database(address := f"sqlite:///{tmp_path}/ledger.sqlite3")
    upgrade(ledger)
    ledger.close()
    settings = {"DATABASE_URL": address, "REDIS_URL": "redis://127.0.0.1:1/0", "AUTH_JWT_SECRET": JWT_SECRET}

    def alive() -> bool:
        with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1) as answer:
            return bool(answer.status == 200)
        return False

    with (tmp_path / "output").open("wb") as output:
        web = subprocess.Popen(
            launched([*ONELANE, "web", "--workers=2"]),
            cwd=tmp_path,
            env=shadowed(PORT=str(port), **settings),
            stdout=output,
            stderr=output,
        )
    try:
        wait_until(lambda: alive() or web.poll() is not None, lambda: (tmp_path / "output").read_text("utf-8"))
        assert web.poll() is None, (tmp_path / "output").read_text("utf-8")
    finally:
        web.send_signal(signal.SIGTERM)
        web.wait(40)


@pytest.mark.parametrize(("given", "path"), [("app.handlers", f".{os.pathsep}"), ("worker/handlers.py", "")])
def test_worker_finds_handlers_in_folders_with_our_names(tmp_path: Path, given: str, path: str) -> None:
    """NTF-8: they import their own modules, and `on` from us."""
    source = (
        "from pathlib import Path\nfrom app.models import SHOP\nfrom onelane import Notification, on\n\n"
        "@on()\ndef every(notification: Notification) -> None: ...\n\nPath('loaded').write_text(SHOP, 'utf-8')\n"
    )
    for name in ("app", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "handlers.py").write_text(source, "utf-8")
    (tmp_path / "app" / "models.py").write_text("SHOP = 'theirs'\n", "utf-8")
    (tmp_path / "catalog.toml").write_bytes((ROOT / "catalog.toml").read_bytes())
    settings = {"APP_HANDLERS": given, "STRIPE_API_KEY": "sk_test_x", "STRIPE_API_BASE": "http://127.0.0.1:1"}
    with (tmp_path / "output").open("wb") as output:
        worker = subprocess.Popen(
            launched([*ONELANE, "worker"]),
            cwd=tmp_path,
            env=environment(PYTHONPATH=f"{path}{ROOT}", DATABASE_URL=f"sqlite:///{tmp_path}/none", **settings),
            stdout=output,
            stderr=output,
        )
    try:
        loaded = tmp_path / "loaded"
        wait_until(
            lambda: loaded.exists() or worker.poll() is not None, lambda: (tmp_path / "output").read_text("utf-8")
        )
        assert loaded.exists(), (tmp_path / "output").read_text("utf-8")
        assert loaded.read_text("utf-8") == "theirs"
    finally:
        worker.kill()
        worker.wait()


def test_path_keeps_every_entry_and_its_order(tmp_path: Path) -> None:
    """OPS-76"""
    shadow, other = tmp_path / "shadow", tmp_path / "other"
    (shadow / "worker").mkdir(parents=True)
    (other / "workers").mkdir(parents=True)
    assert own_first([str(shadow), str(other), "stdlib"]) == [str(other), "stdlib", str(HERE), str(shadow)]
    assert own_first([str(HERE), str(other), str(shadow)]) == [str(HERE), str(other), str(shadow)]


def test_commands_without_the_web_are_those_of_the_command_line() -> None:
    assert {name: COMMANDS[name] for name in WITHOUT_THE_WEB} == WITHOUT_THE_WEB


def test_public_names_are_the_functions_of_the_handlers() -> None:
    assert {name: getattr(onelane, name) for name in onelane.__all__} == {
        "Notification": handlers.Notification,
        "on": handlers.on,
    }
    with pytest.raises(AttributeError):
        _ = onelane.off
