"""`onelane dev` and `onelane web`: start processes. The web runs in this process and holds no Stripe key."""

import multiprocessing
import os
import tempfile

import click


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
    if workers > 1 and "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        # prometheus_client reads it when it is imported, which was before: each process begins as a new interpreter.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="onelane-metrics-")
        multiprocessing.set_start_method("spawn")

    from app.dev.ports import require_free
    from app.server import serve
    from billing.services import build_services
    from billing.settings import load_settings

    settings = load_settings(stripe_api_key=None)
    build_services(settings)  # opens nothing: what makes no sense is said once, here, not by every process
    require_free(settings.bind, settings.port, setting="PORT")
    serve(settings, workers=workers, threads=threads)
