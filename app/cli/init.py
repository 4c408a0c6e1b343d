"""`onelane init`: a catalog and a `.env` to begin with, every setting with its meaning. Nothing is ever overwritten."""

import base64
import os
import re
import secrets
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from billing.errors import ConfigurationError
from billing.process.setting_docs import SECTIONS, default_of

EXAMPLE = Path(__file__).with_name("catalog.example.toml")
WIDTH = 100


@click.command()
@click.option("--product", metavar="KEY", help="The tag of your product; without it the folder's name.")
def init(product: str | None) -> None:
    """Write catalog.toml and .env here, with comments; a file that exists is left as it is."""
    key = product or re.sub(r"[^A-Za-z0-9_-]+", "-", Path.cwd().name).strip("-_") or "product"
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", key):
        raise click.UsageError("A product's key is 1 to 63 letters, digits, - and _.")
    _write(Path("catalog.toml"), lambda: EXAMPLE.read_text("utf-8").replace("PRODUCT", key))
    _write(Path(".env"), lambda: environment(_secrets()))
    click.echo("Next: `onelane dev` tries it on a Stripe of its own; docs/start.md goes on with your test account.")


def environment(given: Mapping[str, str]) -> str:
    """The text of a `.env`: each setting with its meaning; those given have a value, the others are commented out."""
    lines = ["# Settings of onelane. A line without # is set; the others show what holds without them.", ""]
    for section, settings in SECTIONS.items():
        lines += [f"# --- {section}", ""]
        for name, meaning in settings.items():
            lines += textwrap.wrap(
                meaning[0].upper() + meaning[1:] + ".", WIDTH, initial_indent="# ", subsequent_indent="# "
            )
            lines += [f"{name}={given[name]}" if name in given else f"#{name}={default_of(name)}", ""]
    return "\n".join(lines)


def _secrets() -> Mapping[str, str]:
    """What nobody has to think of: each installation's own."""
    return {
        "AUTH_JWT_SECRET": secrets.token_urlsafe(32),
        "AUTH_API_KEYS": secrets.token_urlsafe(24),
        "APP_WEBHOOK_SECRET": f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}",
        "METRICS_TOKEN": secrets.token_urlsafe(24),
    }


def _write(path: Path, text: Callable[[], str]) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text())
    except FileExistsError:
        click.echo(f"{path} is there already; it was left as it is.")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}). Run in a folder of yours.") from None
    else:
        click.echo(f"{path} written.")
