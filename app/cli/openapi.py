"""`onelane openapi`: the document that `/openapi.json` serves, without a server."""

import json

import click

from app.openapi.document import document


@click.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    click.echo(json.dumps(document(), indent=2))
