"""`onelane find ID`: what an id is, and whose."""

from dataclasses import asdict

import click

from app.cli.options import as_json, open_services
from app.cli.tables import show_rows
from billing.operators.find import find


@click.command("find")
@click.argument("text", metavar="ID")
@as_json
def find_command(text: str, as_json: bool) -> None:
    """Say what an id is, and whose: a user's, Stripe's (cus_, sub_, cs_, evt_, in_, req_, ...), ours (chk_, op_, msg_).

    Also takes the SHA-256 of an email in lower case, since emails are in no log.
    """
    hits = find(text.strip(), database=open_services().database)
    if not hits:
        raise click.ClickException("Nothing in the ledger has that id.")  # exit code 1
    show_rows([asdict(hit) for hit in hits], as_json=as_json, nothing="")
    users = {hit.user_id for hit in hits if hit.user_id}
    shown = {hit.id for hit in hits if hit.kind == "event"}
    if len(users) == 1 and not as_json:
        click.echo(f"\nonelane customers show {users.pop()}")
    if len(shown) == 1 and not as_json:
        click.echo(f"\nonelane events show {shown.pop()}")
