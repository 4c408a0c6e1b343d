"""`onelane dev`, `web`, `worker`, `beat`: start processes.

The web runs in this process and holds no Stripe key. Worker and beat are another package: this process becomes them.
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

# Granian's Rust side has an allocator of its own, jemalloc, whose heaps and caches for each thread fill where one
# thread frees what another took, as a delivery's commit does. Measured on PostgreSQL from 10,000 to a million
# deliveries: it grew by 17.7 MiB at most with its own numbers, by 5.8 with one heap and no caches, and was as fast.
# glibc, which Python's longer pieces come from, has such caches and heaps, too: seven pieces of each size, 16 heaps.
WEB_ENVIRONMENT = {
    "GLIBC_TUNABLES": "glibc.malloc.tcache_count=2:glibc.malloc.arena_max=2",
    "_RJEM_MALLOC_CONF": "narenas:1,tcache:false,dirty_decay_ms:500,muzzy_decay_ms:0",
}


@click.command()
def dev() -> None:
    """Run everything on this machine: no account, no Docker. Ctrl-C stops it."""
    from app.dev.run import run_dev

    run_dev()


@click.command()
@click.option("--workers", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes.")
@click.option("--threads", default=160, show_default=True, type=click.IntRange(1, 512), help="Threads of each process.")
def web(workers: int, threads: int) -> None:
    """Serve HTTP on BIND and PORT."""
    # Read when a process begins, or when prometheus_client is imported, both of which were before this line.
    missing = {name: value for name, value in WEB_ENVIRONMENT.items() if name not in os.environ}
    if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        missing["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="onelane-metrics-")
    if missing:
        os.environ |= missing
        again = [sys.executable, "-m", "app", "web", f"--workers={workers}", f"--threads={threads}"]
        os.execv(sys.executable, again)  # noqa: S606  # no shell wanted

    from app.dev.ports import require_free
    from app.server import serve
    from billing.services import build_services
    from billing.settings import load_settings

    settings = load_settings(stripe_api_key=None)
    build_services(settings)  # opens nothing: what makes no sense is said once, here, not by every process
    require_free(settings.bind, settings.port, setting="PORT")
    serve(settings, workers=workers, threads=threads)


@click.command()
@click.option("--queues", help="Comma-separated queues to consume; all of them by default.")
@click.option("--concurrency", type=click.IntRange(1, 256), help="Threads; 16 by default.")
@click.option("--name", help="The process' name in its log lines.")
@click.option("--alive-file", type=click.Path(path_type=Path), help="Touched by the worker's loop every 5 s.")
def worker(**options: Any) -> None:
    """Consume queues: checkout, webhooks, maintenance."""
    _become("work", options)


@click.command()
@click.option("--alive-file", type=click.Path(path_type=Path), help="Touched at every tick.")
def beat(**options: Any) -> None:
    """Send the sweep every 30 seconds."""
    _become("beat", options)


def _become(command: str, options: dict[str, Any]) -> None:
    """Become `python -m worker …`: one process, so that signals and exit codes are the worker's own."""
    given = {name: value for name, value in options.items() if value is not None}
    arguments = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    os.execv(sys.executable, [sys.executable, "-m", "worker", command, *arguments])  # noqa: S606  # no shell wanted
