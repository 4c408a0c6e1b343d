"""`onelane token USER_ID`: a buyer's token on stdout, to try the HTTP interface of a running `onelane dev`."""

import click

from app.dev.tokens import sign_token
from billing.clock import SYSTEM_CLOCK
from billing.process.settings import load_settings
from billing.rules.ids import is_user_id


@click.command()
@click.argument("user_id")
def token(user_id: str) -> None:
    """Print a token that acts for a user for an hour, signed with AUTH_JWT_SECRET."""
    if not is_user_id(user_id):
        raise click.UsageError("A user's id is 1 to 200 printable characters.")
    click.echo(sign_token(user_id, settings=load_settings(), now=SYSTEM_CLOCK.now()))
