"""What fails, by its error, and the replays that were begun: the further commands of `onelane events`."""

from datetime import datetime
from typing import Any

import click

from app.cli.options import Moment, as_json, listed, require_reason, why
from app.cli.tables import show_one, show_rows
from billing.maintenance.replay_run import stop_run
from billing.maintenance.replay_store import EventFilter, filter_in_words
from billing.operators.audit import audited
from billing.operators.events import group_failures
from billing.operators.replays import list_replays, show_replay
from billing.process.settings import load_settings
from billing.services import build_services


@click.command("failures")
@click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
@click.option("--until", type=Moment(), help="Received before.")
@listed
def failures(types: tuple[str, ...], until: datetime | None, limit: int, as_json: bool, **chosen: Any) -> None:
    """Group the events that fail or were given up by their error, the most frequent first."""
    rows = group_failures(
        EventFilter(types=types, until=until, **chosen), database=build_services(load_settings()).database
    )
    show_rows(rows[:limit], as_json=as_json, nothing="No event fails.")


@click.command("replays")
@click.argument("replay_id", type=int, required=False)
@listed
def replays(replay_id: int | None, customer_id: str | None, since: datetime | None, limit: int, as_json: bool) -> None:
    """List the newest replays: reason, filter and progress; or show one, with what became of its events."""
    database = build_services(load_settings()).database
    if replay_id is not None:
        show_one(_for_people(show_replay(replay_id, database=database), as_json=as_json), as_json=as_json)
        return
    rows = list_replays(database=database, customer=customer_id, since=since, limit=limit)
    show_rows([_for_people(row, as_json=as_json) for row in rows], as_json=as_json, nothing="No replays.")


def _for_people(row: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    return row if as_json else {**row, "filter": filter_in_words(row["filter"])}


@click.command("stop")
@click.argument("replay_id", type=int)
@why
@as_json
def stop(replay_id: int, reason: str | None, as_json: bool) -> None:
    """Stop a running replay, whoever runs it. What it has set back is worked all the same."""
    services, said = build_services(load_settings()), require_reason(reason)
    places: dict[str, Any] = {"database": services.database, "clock": services.clock}
    with audited("events stop", target=f"replay {replay_id}", reason=said, **places):
        stop_run(replay_id, **places)
    if as_json:
        show_one({"id": replay_id, "state": "stopped"}, as_json=True)
    else:
        click.echo(f"Replay {replay_id} is stopped.")
