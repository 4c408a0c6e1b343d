"""The programs of `onelane dev`: their commands and environments, and how each shows that it is ready.

The commands are production's. Only workers hold a Stripe key; the web has none.
"""

import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from app.dev.embedded import last_words, prepare_valkey, valkey_answers
from app.dev.settings import DevSettings
from app.dev.supervisor import Program
from billing.process.unsafe_settings import SHOP

ONELANE = (sys.executable, "-P", "-m", "onelane")
# The web must not hold these.
KEY_SETTINGS = ("STRIPE_API_KEY", "STRIPE_API_KEY_FILE")
CHECKOUT_THREADS = 16  # a lane's work waits for Stripe most of the time
OTHER_THREADS = 4  # a file of SQLite has one writer anyway

# Stopping order: no new requests, then the end of the work in hand, then what the work needs.
WEB_RANK, WORKER_RANK, GROUND_RANK = 1, 2, 3


def ground_programs(decided: DevSettings, *, folder: Path) -> list[Program]:
    """What the others need: Valkey and the sandbox, where they are embedded."""
    programs = []
    if port := decided.valkey_port:
        prepare = partial(prepare_valkey, folder / "valkey", port=port)
        programs.append(
            Program(
                "valkey",
                prepare(),
                dict(os.environ),
                lambda: valkey_answers(port),
                rank=GROUND_RANK + 1,
                stop_seconds=3,
                prepare=prepare,  # who tries what becomes of lost data removes the folder
                last_words=lambda: last_words(folder / "valkey"),
            )
        )
    if decided.sandbox_home:
        programs.append(_sandbox(decided, decided.sandbox_home, folder))
    return programs


def own_programs(decided: DevSettings, *, folder: Path) -> list[Program]:
    """Web, two workers, beat."""
    metrics = {"METRICS_DIR": str((folder / "metrics").resolve())}
    environment = {**os.environ, **decided.values, **metrics, "ONELANE_LOG": "console", "PYTHONUNBUFFERED": "1"}
    web = {name: value for name, value in environment.items() if name not in KEY_SETTINGS}
    return [
        Program(
            "web",
            [*ONELANE, "web"],
            {**web, SHOP: "1"} if decided.shop else web,
            lambda: _answers(f"{decided.home}/readyz"),
            rank=WEB_RANK,
            stop_seconds=5,
        ),
        _worker("checkout", "checkout", CHECKOUT_THREADS, environment, folder),
        _worker("worker", "webhooks,maintenance", OTHER_THREADS, environment, folder),
        _follower("beat", ["beat"], web, folder, rank=WEB_RANK),
    ]


def _worker(name: str, queues: str, threads: int, environment: Mapping[str, str], folder: Path) -> Program:
    arguments = ["worker", "--queues", queues, "--concurrency", str(threads), "--name", name]
    return _follower(name, arguments, environment, folder, rank=WORKER_RANK)


def _follower(name: str, arguments: list[str], environment: Mapping[str, str], folder: Path, *, rank: int) -> Program:
    """A process without a port: it touches a file as long as its loop turns."""
    alive = (folder / "run" / f"{name}.alive").resolve()
    alive.parent.mkdir(parents=True, exist_ok=True)
    command = [*ONELANE, *arguments, "--alive-file", str(alive)]
    return Program(
        name,
        command,
        environment,
        alive.exists,
        rank=rank,
        stop_seconds=8,  # a Stripe call in hand may finish; other work goes back to the queue
        prepare=lambda: alive.unlink(missing_ok=True),  # of the last run
    )


def _sandbox(decided: DevSettings, home: str, folder: Path) -> Program:
    command = [*ONELANE, "sandbox", "--port", str(decided.sandbox_port), "--public-url", home]
    command += ["--state", str(folder / "sandbox.sqlite3"), "--seed", str(folder / "sandbox-seed.json")]
    environment = {
        **os.environ,
        "SANDBOX_WEBHOOK_URL": f"{decided.home}/webhooks/stripe",
        "SANDBOX_WEBHOOK_SECRET": decided.signing_secret,
        "PYTHONUNBUFFERED": "1",
    }
    return Program("sandbox", command, environment, lambda: _answers(home), rank=GROUND_RANK, stop_seconds=3)


def _answers(address: str) -> bool:
    """Whether the address answers below 500, or at all with an application's own refusal."""
    try:
        with urllib.request.urlopen(address, timeout=0.5) as answer:  # noqa: S310  # our own loopback address
            return bool(answer.status < 500)
    except urllib.error.HTTPError as error:
        return error.code < 500
    except OSError:
        return False
