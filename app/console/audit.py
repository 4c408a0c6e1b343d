"""The audit log: who changed what, by a command or here, why, and what came of it."""

from flask import Blueprint, Response, request

from app.console.actions import command_line
from app.console.asked import SPANS, Asked, read_asked
from app.console.shown import page
from billing.operators.audit import list_audit
from billing.operators.listing import Wanted
from billing.services import Services

LIMIT = 200


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/audit"""

    @routes.get("/audit")
    def audit() -> Response:
        given = read_asked(request.args, since="7d")
        asked = Asked(customer=given.customer, since=given.since)
        since = asked.since_at(services.clock.now())
        rows = list_audit(Wanted(LIMIT, asked.customer or None, since), database=services.database)
        command = command_line("audit", "list", *asked.options(), reason=False)
        return page("audit.html", rows=rows, asked=asked, spans=SPANS, most=LIMIT, command=command)
