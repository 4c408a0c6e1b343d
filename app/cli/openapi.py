"""`onelane openapi`: the document that `/openapi.json` serves, without a server."""

import json

import click

from app import create_app
from billing.process.settings import load_settings
from billing.services import build_services


@click.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    settings = load_settings(stripe_api_key=None)
    # memory://: counting rates needs no server here.
    application = create_app(settings, build_services(settings), limits_storage="memory://")
    answer = application.test_client().get("/openapi.json")
    click.echo(json.dumps(answer.get_json(), indent=2))
