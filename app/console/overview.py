"""The first page: what is worst now and the command that mends it, and a tile for everything that may wait."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flask import Blueprint, Response, g

from app.console.shown import ago, page, span
from billing.operators.presence import Process
from billing.operators.report import glance
from billing.operators.worst import CHANGE_WAITS, CHECKOUT_WAITS, EVENT_WAITS
from billing.services import Services

NEVER = "never yet"


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: its state is good, wait or bad, and `more` says how old it is."""

    name: str
    value: str
    more: str
    state: str = "good"


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/; asked for as a part (htmx), only what changes."""

    @routes.get("/", strict_slashes=False)
    def now() -> Response:
        summary = glance(database=services.database, clock=services.clock)
        template = "now_part.html" if g.is_part else "now.html"
        return page(
            template,
            troubles=summary["troubles"],
            groups=[("Processes", list(_processes(summary))), ("What waits", list(_waiting(summary)))],
            stripe=summary["stripe"],
            at=summary["at"],
        )


def _processes(summary: Mapping[str, Any]) -> Iterator[Tile]:
    there: Sequence[Process] = summary["there"]
    for kind in ("web", "worker", "beat"):
        of_kind = [process for process in there if process.kind == kind]
        living = [process for process in of_kind if process.is_there]
        threads = sum(process.threads for process in living)
        seen = span(min((process.age_seconds for process in of_kind), default=0))
        if living:
            more = f"{threads} threads, seen {seen} ago" if kind == "worker" else f"seen {seen} ago"
        else:
            more = f"last seen {seen} ago" if of_kind else "none within a day"
        name = {"web": "Webs", "worker": "Workers", "beat": "Beat"}[kind]
        yield Tile(name, str(len(living)), more, "good" if living else "bad")


def _waiting(summary: Mapping[str, Any]) -> Iterator[Tile]:
    now: datetime = summary["at"]

    def tile(name: str, value: int, oldest: datetime | None, patience: Any) -> Tile:
        if not value or oldest is None:
            return Tile(name, f"{value:,}", "none waits" if not value else "")
        late = now - oldest > patience
        return Tile(name, f"{value:,}", f"oldest from {ago(oldest, now)}", "bad" if late else "wait")

    def given_up(name: str, value: int, more: str) -> Tile:
        return Tile(name, f"{value:,}", more if value else "none", "bad" if value else "good")

    checkouts, events, messages = summary["checkouts"], summary["events"], summary["messages"]
    yield tile("Waiting checkouts", checkouts.get("pending", 0), checkouts["oldest_pending_at"], CHECKOUT_WAITS)
    yield tile("Pending events", events.get("pending", 0), events["oldest_pending_at"], EVENT_WAITS)
    yield given_up("Dead events", events.get("dead", 0), "given up after their attempts")
    yield tile("Undelivered changes", messages.get("pending", 0), messages["oldest_pending_at"], CHANGE_WAITS)
    yield given_up("Dead changes", messages.get("dead", 0), "the application does not know them")
    yield given_up("Incidents", sum(summary["incidents"].values()), "wait for a person")
