"""The search on every page: what an id is and whose, by the function of `onelane find`. One hit is jumped to."""

from flask import Blueprint, Response, request

from app.console.shown import page, place, printable, see_other
from billing.operators.find import Hit, find
from billing.services import Services

LONGEST = 255


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/find?q=ID"""

    @routes.get("/find", endpoint="find")
    def find_page() -> Response:
        text = printable(request.args.get("q", ""))[:LONGEST]
        hits = find(text, database=services.database) if text else []
        if len(hits) == 1 and (address := page_of(hits[0])):
            return see_other(address)
        owners = list(dict.fromkeys(hit.user_id for hit in hits if hit.user_id))
        return page("find.html", text=text, hits=hits, owners=owners, page_of=page_of)


def page_of(hit: Hit) -> str | None:
    """The page of a hit: its own, else its user's; None where there is neither."""
    return place(hit.kind, hit.id) or (place("user", hit.user_id) if hit.user_id else None)
