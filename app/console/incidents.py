"""Incidents: what a person has to look at, both subscriptions side by side, and the two ways to end one."""

from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from app.console.actions import Button, act, command_line, done, read_row_id
from app.console.shown import page, printable
from billing.coordination.queue import while_reachable
from billing.operators.incident import keep_one, resolve_incident, show_incident
from billing.operators.listing import Wanted
from billing.operators.lookup import list_incidents
from billing.services import Services
from billing.subscriptions.projection import is_live
from billing.subscriptions.troubles import DUPLICATE

LIMIT = 100


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/incidents and /incident?id=…; and the POSTs that end one."""
    database, clock = services.database, services.clock

    @routes.get("/incidents")
    def incidents() -> Response:
        everything = request.args.get("all") == "1"
        rows = list_incidents(Wanted(LIMIT), database=database, everything=everything)
        words = ["incidents", "list", *(["--all"] if everything else [])]
        return page(
            "incidents.html", rows=rows, everything=everything, most=LIMIT, command=command_line(*words, reason=False)
        )

    @routes.get("/incident")
    def incident() -> Response:
        shown = show_incident(read_row_id(request.args, "incident"), database=database, catalog=services.catalog)
        live = _live(shown)
        return page(
            "incident.html", shown=shown, live=len(live), buttons=list(_buttons(shown, live)), done=done(services)
        )

    @routes.post("/incident/resolve")
    def resolve() -> Response:
        def work(reason: str) -> str:
            resolve_incident(incident_id, reason=reason, database=database, clock=clock)
            return "resolved"

        incident_id = read_row_id(request.form, "incident")
        return led_back(incident_id, f"incident {incident_id}", work)

    @routes.post("/incident/keep")
    def keep() -> Response:
        def work(_reason: str) -> str:
            keep_one(incident_id, kept_id, queue=while_reachable(services.queue), database=database, clock=clock)
            return "asked for; a worker is on it"

        incident_id, kept_id = read_row_id(request.form, "incident"), printable(request.form.get("keep", ""))[:255]
        return led_back(incident_id, f"incident {incident_id}: keep {kept_id}", work)

    def led_back(incident_id: int, target: str, work: Any) -> Response:
        led = partial(act, "incidents resolve", target, work, services=services)
        return led(back="console.incident", id=incident_id)


def _live(shown: dict[str, Any]) -> list[str]:
    """Of a duplicate that is not over: the subscriptions of which one stays."""
    if shown["resolved_at"] is not None or shown["kind"] != DUPLICATE:
        return []
    return [row["id"] for row in shown["subscriptions"] if is_live(row["status"])]


def _buttons(shown: dict[str, Any], live: list[str]) -> Iterator[Button]:
    if shown["resolved_at"] is not None:
        return
    number = str(shown["id"])
    if len(live) > 1:
        for id_ in live:
            others = ", ".join(other for other in live if other != id_)
            yield Button(
                f"Keep {id_}",
                "console.keep",
                f"A worker cancels {others} at Stripe, for good, and gives back what was paid for it.",
                command_line("incidents", "resolve", number, "--keep", id_, "--yes"),
                {"id": number, "keep": id_},
            )
    yield Button(
        "It is done by hand",
        "console.resolve",
        "What it asked for is finished. What still is so at the next look at Stripe is an incident again.",
        command_line("incidents", "resolve", number),
        {"id": number},
    )
