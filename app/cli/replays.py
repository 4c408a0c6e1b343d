"""What fails, by its error, and the replays that were begun: the further commands of `onelane events`."""

from datetime import datetime
from typing import Any

import click

from app.cli.options import Moment, as_json, customer, limit, require_reason, since, why
from app.cli.tables import show_one, show_rows
from billing.maintenance.replay_run import stop_run
from billing.maintenance.replay_store import EventFilter
from billing.operators.audit import audited
from billing.operators.events import group_failures
from billing.operators.replays import list_replays, show_replay
from billing.process.settings import load_settings
from billing.services import build_services


@click.command("failures")
@click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
@customer
@since
@click.option("--until", type=Moment(), help="Received before.")
@as_json
def failures(
    types: tuple[str, ...], customer_id: str | None, since: datetime | None, until: datetime | None, as_json: bool
) -> None:
    """Group the events that fail or were given up by their error, the most frequent first."""
    chosen = EventFilter(types=types, customer_id=customer_id, since=since, until=until)
    rows = group_failures(chosen, database=build_services(load_settings()).database)
    show_rows(rows, as_json=as_json, nothing="No event fails.")


@click.command("replays")
@click.argument("replay_id", type=int, required=False)
@limit
@as_json
def replays(replay_id: int | None, limit: int, as_json: bool) -> None:
    """List the newest replays: reason, filter and progress; or show one, with what became of its events."""
    database = build_services(load_settings()).database
    if replay_id is not None:
        show_one(show_replay(replay_id, database=database), as_json=as_json)
        return
    show_rows(list_replays(database=database, limit=limit), as_json=as_json, nothing="No replays.")


@click.command("stop")
@click.argument("replay_id", type=int)
@why
def stop(replay_id: int, reason: str | None) -> None:
    """Stop a running replay, whoever runs it. What it has set back is worked all the same."""
    services, said = build_services(load_settings()), require_reason(reason)
    places: dict[str, Any] = {"database": services.database, "clock": services.clock}
    with audited("events stop", target=f"replay {replay_id}", reason=said, **places):
        stop_run(replay_id, **places)
    click.echo(f"Replay {replay_id} is stopped.")
