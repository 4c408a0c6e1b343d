"""`onelane webhooks setup --url URL`: create or update the webhook endpoint at Stripe."""

from dataclasses import asdict
from urllib.parse import urlsplit

import click

from app.cli.options import as_json, noted, open_services, why
from app.cli.tables import show_one
from billing.database.migrations.upgrade import find
from billing.errors import ConfigurationError, TransientError
from billing.services import Services
from billing.stripe_gateway import API_VERSION, GatewayClient
from billing.webhooks.endpoint import PATH, Action, Setup, set_up_endpoint


@click.group()
def webhooks() -> None:
    """The webhook endpoint at Stripe."""


@webhooks.command("setup")
@click.option("--url", required=True, help=f"Where Stripe reaches us: https://…{PATH}")
@click.option("--dry-run", is_flag=True, help="Say what would happen; change nothing.")
@click.option("--replace", is_flag=True, help="Make a new one where the one that is there sends another API version.")
@why
@as_json
def setup(url: str, dry_run: bool, replace: bool, reason: str | None, as_json: bool) -> None:
    """Create or update the webhook endpoint, with exactly the event types that are followed.

    Its signing secret is shown once, when it is created: put it into STRIPE_WEBHOOK_SECRETS.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise click.UsageError("--url must be an http:// or https:// address.")
    services = open_services()
    stripe = services.stripe
    if not isinstance(stripe, GatewayClient):
        raise ConfigurationError("STRIPE_API_KEY is not set. Set a key that may write webhook endpoints.")
    is_noted = _takes_notes(services)
    with noted(services.database, "webhooks setup", url, reason, dry_run=dry_run or not is_noted) as say:
        done = set_up_endpoint(url, stripe=stripe, api_version=API_VERSION, dry_run=dry_run, replace=replace)
        say(f"{done.endpoint_id or 'the endpoint'} {done.action.value}")
    if not is_noted and not dry_run:
        click.echo("The audit log does not have it: the ledger has no tables yet, or does not answer.", err=True)
    if not parts.path.endswith(PATH):
        click.echo(f"Mind the path: onelane listens at {PATH}, unless a proxy in front of it rewrites it.", err=True)
    if as_json:
        show_one({**asdict(done), "dry_run": dry_run}, as_json=True)
        return
    _show(done, dry_run=dry_run)


def _takes_notes(services: Services) -> bool:
    """Whether there is an audit log: the endpoint may be set up before the ledger is."""
    try:
        return find(services.database).fit.works
    except TransientError:
        return False


def _show(done: Setup, *, dry_run: bool) -> None:
    would = "would be " if dry_run and done.action is not Action.UNCHANGED else ""
    click.echo(f"{done.endpoint_id or 'The endpoint'}: {would}{done.action.value}, API version {API_VERSION}.")
    for sign, types in (("+", done.added), ("-", done.removed)):
        for type_ in types:
            click.echo(f"  {sign} {type_}")
    if done.enabled:
        click.echo("  It was switched off.")
    if done.other_version:
        click.echo(
            f"  It sends API version {done.other_version}, which cannot be changed. onelane reads every version;"
            " --replace makes a new endpoint beside it.",
            err=True,
        )
    if done.left_over:
        click.echo(f"  Other endpoints of this address, which you may delete: {', '.join(done.left_over)}.", err=True)
    if done.secret:
        click.echo("Its signing secret, shown only now. Add it to STRIPE_WEBHOOK_SECRETS:")
        click.echo(done.secret)
