"""`onelane dev` and `onelane web`: start processes. The web runs in this process and holds no Stripe key."""

import os
import sys
import tempfile

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
        os.environ.update(missing)
        again = [sys.executable, "-P", "-m", "onelane", "web", f"--workers={workers}", f"--threads={threads}"]
        os.execv(sys.executable, again)  # noqa: S606  # no shell wanted

    from app.dev.ports import require_free
    from app.server import serve
    from billing.services import build_services
    from billing.settings import load_settings

    settings = load_settings(stripe_api_key=None)
    build_services(settings)  # opens nothing: what makes no sense is said once, here, not by every process
    require_free(settings.bind, settings.port, setting="PORT")
    serve(settings, workers=workers, threads=threads)
