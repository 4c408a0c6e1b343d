"""`onelane dev` and `onelane web`: start processes. The web runs in this process and holds no Stripe key."""

import multiprocessing
import os
import sys
import tempfile
from contextlib import suppress

import click

from billing.process.exits import plain_exits


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
    from app.dev.ports import require_free
    from app.serving.server import KEYS, serve
    from billing.process.settings import load_settings

    if held := [name for name in KEYS if name in os.environ]:
        load_settings()  # refuses what is unsafe beside this key
        # A process' first environment is in /proc for as long as it lives, whatever is removed later: it begins anew.
        without = {name: value for name, value in os.environ.items() if name not in held}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], without)  # noqa: S606
    settings = load_settings(stripe_api_key=None)
    if workers > 1 and settings.metrics_dir is None:
        with suppress(OSError):  # no folder may be written: then each process shows its own counts
            os.environ["METRICS_DIR"] = tempfile.mkdtemp(prefix="onelane-metrics-")  # for those started below
    # What makes no sense is said once, and not by every process; by one that ends, so that this one stays small.
    check = multiprocessing.get_context("fork").Process(target=_check)
    check.start()
    check.join()
    if check.exitcode:
        raise SystemExit(check.exitcode)
    require_free(settings.bind, settings.port, setting="PORT")
    serve(settings, workers=workers, threads=threads)


def _check() -> None:
    from billing.database.suitable import require_suitable
    from billing.doctor.redis import require_redis
    from billing.errors import TransientError
    from billing.process.settings import load_settings
    from billing.services import build_services

    with plain_exits():
        load_settings()  # with a key that is here by mistake: some settings are unsafe only beside a live one
        require_redis(load_settings(stripe_api_key=None))
        services = build_services(load_settings(stripe_api_key=None))
        try:
            require_suitable(services.database)
        except TransientError as error:  # it may come, and /readyz says so until then
            click.echo(f"onelane: {error.for_operator} The web starts all the same.", err=True)
        services.database.close()
