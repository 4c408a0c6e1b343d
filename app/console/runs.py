"""Runs: replays with what became of their events, live while they go on; reconciling and pruning."""

from collections.abc import Iterator
from typing import Any

from flask import Blueprint, Response, g, request

from app.console.actions import Button, act, command_line, done, read_row_id, wake
from app.console.shown import page
from billing.coordination.jobs import Reconcile
from billing.maintenance import runs as maintenance
from billing.maintenance.replay_run import stop_run
from billing.models import ReplayState
from billing.operators.listing import Wanted
from billing.operators.replays import list_replays, show_replay
from billing.services import Services

LIMIT = 50
# What a run's report counts, in the words of `onelane reconcile`; the others are lists, or of no use at a glance.
COUNTED = {
    "events": "events read",
    "found": "never delivered",
    "strays": "orphaned sessions",
    "compared": "customers compared",
    "drifted": "differed",
    "failed": "refused by Stripe",
    "payloads": "payloads deleted",
    "rows": "rows deleted",
}


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/runs and /replay?id=…, of which the live part is asked for every 2 s; and the POSTs of buttons."""
    database, clock = services.database, services.clock

    @routes.get("/runs")
    def runs() -> Response:
        with database.read() as connection:
            rows = {
                "Reconciling": maintenance.read(connection, maintenance.RECONCILE_ROW),
                "Pruning": maintenance.read(connection, maintenance.PRUNE_ROW),
            }
        found = list_replays(Wanted(LIMIT), database=database)
        newest = show_replay(found[0]["id"], database=database) if found else None
        return page(
            "runs.html",
            replays=found,
            newest=newest,
            upkeep=[(name, row, _counts(row.report)) for name, row in rows.items()],
            button=Button(
                "Reconcile now",
                "console.reconcile",
                "A worker reads Stripe's events from the mark on, and finds what was never delivered.",
                command_line("reconcile", "--yes", reason=False),
                asks_reason=False,
            ),
            done=done(services),
        )

    @routes.get("/replay")
    def replay_run() -> Response:
        shown = show_replay(read_row_id(request.args, "replay"), database=database)
        runs_still = shown["state"] == ReplayState.RUNNING
        template = "replay_part.html" if g.is_part else "replay.html"
        buttons = [_stop(shown["id"])] if runs_still else []
        return page(template, shown=shown, buttons=buttons, done=None if g.is_part else done(services))

    @routes.post("/replay/stop")
    def stop_replay() -> Response:
        def work(_reason: str) -> str:
            stop_run(replay_id, database=database, clock=clock)
            return "stopped"

        replay_id = read_row_id(request.form, "replay")
        return act(
            "events stop", f"replay {replay_id}", work, services=services, back="console.replay_run", id=replay_id
        )

    @routes.post("/runs/reconcile")
    def reconcile() -> Response:
        def work(_reason: str) -> str:
            with database.write() as connection:
                maintenance.make_due(connection, maintenance.RECONCILE_ROW)
            return f"due now: {wake(Reconcile(), services)}"

        target = "ordinary, since the mark"
        return act("reconcile", target, work, services=services, back="console.runs", asks_reason=False)


def _stop(replay_id: int) -> Button:
    return Button(
        "Stop it",
        "console.stop_replay",
        "Nothing more is set back. What was set back is worked all the same.",
        command_line("events", "stop", str(replay_id)),
        {"id": str(replay_id)},
    )


def _counts(report: Any) -> Iterator[tuple[str, int]]:
    for name, words in COUNTED.items():
        if isinstance(report.get(name), int):
            yield words, report[name]
