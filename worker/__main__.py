"""`onelane worker` and `onelane beat`, also `python -m worker work` and `python -m worker beat`.

Settings are read, the ledger is checked and bound to the key's account, and only then are messages
taken. A Stripe or ledger that does not answer is waited for; a wrong setting ends the process with 78.
"""

import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import click
import structlog
from celery.exceptions import CPendingDeprecationWarning, SecurityWarning
from celery.signals import setup_logging

from billing.coordination.jobs import QUEUES
from billing.database import Database
from billing.database.suitable import require_suitable
from billing.doctor.redis import require_redis
from billing.errors import ConfigurationError, LedgerMisconfigured, TransientError
from billing.operators.presence import Heartbeat
from billing.process.exits import end_on_signals, plain_exits
from billing.process.logs import configure_logging
from billing.process.metrics import MetricsFile
from billing.process.settings import Settings, load_settings
from billing.process.telemetry import start_telemetry
from billing.services import Services, build_services, require_stripe
from worker.app import create_celery
from worker.consumer import consume
from worker.schedule import run_beat

log = structlog.get_logger("worker")

WAIT_SECONDS = (1, 2, 5, 15)  # between two looks at a Stripe or ledger that does not answer


@click.group()
def main() -> None:
    """Start a worker or the beat."""


@main.command()
@click.option("--queues", default=",".join(QUEUES), show_default=True, help="Comma-separated queues to consume.")
@click.option("--concurrency", default=16, show_default=True, type=click.IntRange(1, 256), help="Threads.")
@click.option("--name", default="worker", show_default=True, help="The process' name in its log lines.")
@click.option("--alive-file", type=click.Path(path_type=Path), help="Touched by the worker's loop every 5 s.")
def work(queues: str, concurrency: int, name: str, alive_file: Path | None) -> None:
    """Consume queues."""
    with plain_exits(), _own_stdout():
        settings = _start(name)
        chosen = _checked(queues)
        require_redis(settings)
        services = build_services(settings)
        _ = services.notifier  # a module of handlers that cannot be imported stops the start, not the first change
        _wait_until_ready(services)
        celery = create_celery(settings, services=lambda: services, threads=concurrency)
        database, neighbours = services.database, services.neighbours
        heartbeat = Heartbeat(
            database, kind="worker", name=name, queues=chosen, threads=concurrency, neighbours=neighbours
        ).start()
        code = consume(celery, queues=chosen, concurrency=concurrency, name=name, alive_file=alive_file)
        heartbeat.stop()
        sys.exit(code)


@main.command()
@click.option("--alive-file", type=click.Path(path_type=Path), help="Touched at every tick.")
def beat(alive_file: Path | None) -> None:
    """Send the sweep every 30 seconds."""
    with plain_exits(), _own_stdout():
        settings = _start("beat")
        require_redis(settings)
        celery = create_celery(settings, services=_no_services)
        _show_beat(settings)
        run_beat(celery, alive_file=alive_file)


@contextmanager
def _own_stdout() -> Iterator[None]:
    """Keep the log free of Celery's "worker: Warm shutdown", which is written to descriptor 1, past every log handler.

    The log and `print` use a copy of the descriptor; 1 itself leads nowhere.
    """
    stream = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.close(nowhere)
    with redirect_stdout(stream):
        yield


def _start(process: str) -> Settings:
    end_on_signals()
    settings = load_settings()
    configure_logging(settings, process=process)
    start_telemetry(settings, process=process)
    # JSON only, so no message becomes code; whether to run as root is for who starts us.
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # Celery's next release would stop running tasks when the broker is lost; ours go on, the ledger has them.
    warnings.filterwarnings("ignore", category=CPendingDeprecationWarning)
    # With a receiver Celery leaves logging alone. weak=False: nothing else holds the function.
    setup_logging.connect(lambda **_: None, weak=False)
    if settings.metrics_dir:
        MetricsFile(settings.metrics_dir).keep_writing()
    return settings


def _checked(queues: str) -> list[str]:
    chosen = [name.strip() for name in queues.split(",") if name.strip()]
    if unknown := set(chosen) - set(QUEUES):
        raise click.BadParameter(f"there is no queue {sorted(unknown)[0]!r}; there are {', '.join(QUEUES)}.")
    return chosen or list(QUEUES)


def _wait_until_ready(services: Services) -> None:
    """Return once the ledger has its tables and is bound to the key's account. Raises ConfigurationError."""
    for turn in range(sys.maxsize):
        try:
            require_suitable(services.database)
            require_stripe(services, why="workers are who talks to Stripe.")
        except LedgerMisconfigured:
            raise
        except TransientError as error:
            log.warning("worker.waits", error=error.code, sentence=error.for_operator)
            time.sleep(WAIT_SECONDS[min(turn, len(WAIT_SECONDS) - 1)])
        else:
            return


def _show_beat(settings: Settings) -> None:
    """Let operators see that beat is there. It needs the ledger for nothing else, so without one it runs unseen."""
    try:
        Heartbeat(Database(settings.database_url, pool_size=1), kind="beat").start()
    except ConfigurationError as error:
        log.warning("beat.unseen", reason=error.for_operator)


def _no_services() -> Services:
    raise RuntimeError("beat only sends")


if __name__ == "__main__":
    main(prog_name="onelane")
