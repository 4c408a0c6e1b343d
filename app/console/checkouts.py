"""Checkouts that wait: lanes that are being worked or fail, whose they are, and when they are tried again."""

from flask import Blueprint, Response

from app.console.actions import command_line
from app.console.shown import page
from billing.operators.listing import Wanted
from billing.operators.report import list_lanes
from billing.services import Services

LIMIT = 100


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/checkouts: what `onelane locks list` lists."""

    @routes.get("/checkouts")
    def checkouts() -> Response:
        held = services.locks.held()
        return page(
            "checkouts.html",
            rows=list_lanes(Wanted(LIMIT), database=services.database, held=held or {}),
            now=services.clock.now(),
            most=LIMIT,
            is_known=held is not None,
            command=command_line("locks", "list", reason=False),
        )
