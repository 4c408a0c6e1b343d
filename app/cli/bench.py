"""`onelane bench`: what `make bench` measures, from a checkout of the project. The measuring lives with the tests."""

import subprocess
import sys
from pathlib import Path

import click

from billing.process.exits import UNAVAILABLE

ROOT = Path(__file__).parents[2]


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def bench(arguments: tuple[str, ...]) -> None:
    """Measure onelane beside the usual way on this machine; ARGUMENTS as for make bench (receiver, drain, 200)."""
    if not (ROOT / "tests" / "bench" / "__main__.py").is_file():
        click.echo("The benchmarks are not installed with onelane. Run this in a checkout of the project.", err=True)
        sys.exit(UNAVAILABLE)
    sys.exit(subprocess.run([sys.executable, "-m", "tests.bench", *arguments], cwd=ROOT, check=False).returncode)  # noqa: S603
