"""The command line `onelane`: thin commands, each in the file of its subject, imported when it is called.

Exit codes: 0; 2 a wrong command line; 69 something does not answer; 78 a wrong setting; 1 not found, or not all done.
"""

import json
import logging
import sys
from importlib import import_module
from importlib.metadata import version

import click
import structlog

from billing.errors import OnelaneError
from billing.process.exits import plain_exits

# Lazily, by name: `onelane web` need not wait for what `onelane doctor` imports.
COMMANDS = {
    "init": "app.cli.init:init",
    "dev": "app.cli.processes:dev",
    "web": "app.cli.processes:web",
    "worker": "worker.__main__:work",
    "beat": "worker.__main__:beat",
    "sandbox": "sandbox.__main__:main",
    "db": "app.cli.ledger:db",
    "doctor": "app.cli.doctor:doctor",
    "events": "app.cli.events:events",
    "dead": "app.cli.events:dead",
    "checkouts": "app.cli.ledger:checkouts",
    "webhooks": "app.cli.webhooks:webhooks",
    "find": "app.cli.find:find_command",
    "locks": "app.cli.report:locks",
    "report": "app.cli.report:report",
    "operations": "app.cli.ledger:operations",
    "incidents": "app.cli.incidents:incidents",
    "notifications": "app.cli.notifications:notifications",
    "audit": "app.cli.audit:audit",
    "customers": "app.cli.customers:customers",
    "reconcile": "app.cli.reconcile:reconcile_command",
    "token": "app.cli.token:token",
    "openapi": "app.cli.openapi:openapi",
    "settings": "app.cli.settings:settings",
    "bench": "app.cli.bench:bench",
}


AS_JSON = "onelane.as_json"  # whether the words have --json


class Commands(click.Group):
    """A group that imports a command when it is called, and turns our errors into one line and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the order above."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command. None when there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse bytes that are no text: no ledger, log or message can hold them (LED-80)."""
        for word in args:
            if not word.isascii() and word != word.encode("utf-8", "replace").decode():
                raise click.UsageError(f"{word!a} is not in UTF-8.")
        ctx.meta[AS_JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        """Run the command; our errors become one line and an exit code."""
        # A command's stdout is its answer; servers configure their own logging when they start.
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        )
        with plain_exits():
            try:
                return super().invoke(ctx)
            except (OnelaneError, click.ClickException, click.Abort) as error:
                if ctx.meta[AS_JSON]:
                    click.echo(json.dumps({"error": _as_row(error)}, indent=2))
                raise


def _as_row(error: Exception) -> dict[str, str]:
    """An error for programs (OPS-231): the code that stays the same, and the sentence that stderr has as well."""
    match error:
        case OnelaneError():
            return {"code": error.code, "sentence": error.for_operator}
        case click.UsageError():
            return {"code": "usage", "sentence": error.format_message()}
        case click.ClickException():
            return {"code": "not_found", "sentence": error.format_message()}
        case _:
            return {"code": "aborted", "sentence": "Nothing was done: the answer was no."}


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("onelane"), prog_name="onelane", message="%(prog)s %(version)s")
def main() -> None:
    """Never sell one customer the same thing twice."""
