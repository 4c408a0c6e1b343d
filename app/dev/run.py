"""`onelane dev`: everything on this machine with one command, and everything stopped with one Ctrl-C.

1 check that it can run here: no second one in the folder, the port is free   2 decide the settings, check those that
are given   3 start Valkey and the sandbox, migrate the ledger   4 start web, workers, beat   5 print the addresses
6 keep everything running until a signal   7 stop in order
"""

import fcntl
import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from app.dev.output import Screen
from app.dev.ports import require_free
from app.dev.programs import ground_programs, own_programs
from app.dev.settings import DevSettings, decide, remove_state, sandbox_seed, write_private, write_state
from app.dev.supervisor import Interrupted, Supervisor
from billing.catalog import load_catalog
from billing.database import Database
from billing.database.migrations.upgrade import upgrade
from billing.doctor.servers import require_given
from billing.errors import ConfigurationError
from billing.process.setting_sources import DEV_STATE
from billing.process.settings import Settings, load_settings
from billing.services import build_services

FOLDER = Path("var")


def run_dev() -> None:
    """Run until Ctrl-C or SIGTERM. Raises ConfigurationError and TransientError with one sentence."""
    started = time.monotonic()
    screen = Screen()
    os.umask(0o077)  # ledger, queue and sandbox hold customers' data
    with _only_one(FOLDER):
        remove_state()  # left by one that was killed
        settings = load_settings()
        require_free(settings.bind, settings.port, setting="PORT")
        decided = decide(settings, folder=FOLDER)
        build_services(load_settings(**{name.lower(): value for name, value in decided.values.items()}))
        require_given(settings)
        _prepare(settings, decided)
        supervisor = Supervisor(screen.say)
        supervisor.handle_signals()
        try:
            supervisor.start(ground_programs(decided, folder=FOLDER))
            database = Database(decided.values["DATABASE_URL"])
            upgrade(database)
            database.close()
            supervisor.start(own_programs(decided, folder=FOLDER))
            write_state(decided)
            _greet(screen, settings, decided, seconds=time.monotonic() - started)
            supervisor.run()
        except Interrupted:
            pass
        finally:
            screen.say("onelane", "stopping")
            supervisor.stop()
            remove_state()
            screen.say("onelane", "stopped")


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which the system releases however this process ends. Raises ConfigurationError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock: TextIO = (folder / "dev.lock").open("a", encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"{folder}/ cannot be written ({error.strerror}). Run in a folder of yours.") from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"onelane dev already runs in this folder{_who()}. Use that one, stop it, or work in another folder."
            ) from None
        yield


def _who() -> str:
    try:
        state = json.loads(DEV_STATE.read_text("utf-8"))
        return f" (process {int(state['pid'])}, port {int(state['settings']['PORT'])})"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _prepare(settings: Settings, decided: DevSettings) -> None:
    """Write the sandbox's seed, and empty the folder of all processes' metrics."""
    if decided.sandbox_port:
        write_private(FOLDER / "sandbox-seed.json", json.dumps(sandbox_seed(load_catalog(settings.catalog)), indent=1))
    shutil.rmtree(FOLDER / "metrics", ignore_errors=True)  # counters of earlier processes
    (FOLDER / "metrics").mkdir(parents=True)


def _greet(screen: Screen, settings: Settings, decided: DevSettings, *, seconds: float) -> None:
    rows = [("Shop", f"{decided.home}/shop")] if decided.shop else []
    rows.append(("API docs", f"{decided.home}/docs"))
    password = decided.generated.get("CONSOLE_PASSWORD")
    if password or settings.console_password:
        rows.append(("Console", f"{decided.home}/console, password {password or 'as given'}"))
    if decided.sandbox_home:
        rows.append(("Sandbox", f"{decided.sandbox_home} (a pretend Stripe; its state is in var/)"))
    else:
        rows.append(("Stripe", settings.stripe_api_base or "api.stripe.com, with your key"))
        if "STRIPE_WEBHOOK_SECRETS" in decided.generated:
            rows.append(("Webhooks", f"set STRIPE_WEBHOOK_SECRETS; deliver to {decided.home}/webhooks/stripe"))
    rows.append(("Stop", "Ctrl-C" if sys.stdin.isatty() else f"kill {os.getpid()}"))
    screen.box(f"onelane is ready ({seconds:.1f} s)", rows)
