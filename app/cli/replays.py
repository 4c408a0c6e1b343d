"""What fails, by its error, and the replays that were begun: the further commands of `onelane events`."""

from datetime import datetime
from typing import Any

import click

from app.cli.options import Moment, as_json, listed, noted, open_services, require_reason, why
from app.cli.tables import show_one, show_outcome, show_rows
from billing.maintenance.replay_run import stop_run
from billing.maintenance.replay_store import EventFilter, filter_in_words
from billing.operators.events import group_failures
from billing.operators.listing import Wanted
from billing.operators.replays import list_replays, show_replay


@click.command("failures")
@click.option("--type", "types", multiple=True, help="Of Stripe's type; customer.subscription.* for a family.")
@click.option("--until", type=Moment(), help="Received before.")
@listed
def failures(types: tuple[str, ...], until: datetime | None, wanted: Wanted, as_json: bool) -> None:
    """Group the events that fail or were given up by their error, the most frequent first."""
    chosen = EventFilter(types=types, customer_id=wanted.customer, since=wanted.since, until=until)
    rows = group_failures(chosen, database=open_services().database)
    show_rows(rows[: wanted.limit], as_json=as_json, nothing="No event fails.")


@click.command("replays")
@click.argument("replay_id", type=int, required=False)
@listed
def replays(replay_id: int | None, wanted: Wanted, as_json: bool) -> None:
    """List the newest replays: reason, filter and progress; or show one, with what became of its events."""
    database = open_services().database
    if replay_id is not None:
        show_one(_for_people(show_replay(replay_id, database=database), as_json=as_json), as_json=as_json)
        return
    rows = list_replays(wanted, database=database)
    show_rows([_for_people(row, as_json=as_json) for row in rows], as_json=as_json, nothing="No replays.")


def _for_people(row: dict[str, Any], *, as_json: bool) -> dict[str, Any]:
    return row if as_json else {**row, "filter": filter_in_words(row["filter"])}


@click.command("stop")
@click.argument("replay_id", type=int)
@why
@as_json
def stop(replay_id: int, reason: str | None, as_json: bool) -> None:
    """Stop a running replay, whoever runs it. What it has set back is worked all the same."""
    services, said = open_services(), require_reason(reason)
    with noted(services.database, "events stop", f"replay {replay_id}", said):
        stop_run(replay_id, database=services.database, clock=services.clock)
    show_outcome({"id": replay_id, "state": "stopped"}, f"Replay {replay_id} is stopped.", as_json=as_json)
