"""The first page: what is worst now and the command that mends it, and a tile for everything that may wait."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import Blueprint, Response, g, url_for

from app.console.shown import ago, page, span
from billing.coordination.jobs import QUEUES
from billing.operators.minutes import read_chart
from billing.operators.presence import Process
from billing.operators.report import glance
from billing.operators.worst import CHANGE_WAITS, CHECKOUT_WAITS, EVENT_WAITS, RECONCILE_LATE_SECONDS
from billing.rules.words import in_number
from billing.services import Services

# What a trouble is about: the page that shows it, by which filter, and the words of the link. Processes have none: they
# are started on their machine, by the command.
SHOWN_AT: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ledger": ("Show what has to be mended", "console.setup", {}),
    "broker": ("Show what has to be mended", "console.setup", {}),
    "key": ("Show what has to be set", "console.setup", {}),
    "catalog": ("Show what has to be set", "console.setup", {}),
    "deliveries": ("Show what has to be set", "console.setup", {}),
    "checkouts": ("Show who waits", "console.checkouts", {}),
    "events": ("Show the events that wait", "console.events", {"status": "pending", "since": "all"}),
    "changes": ("Show the notifications that wait", "console.notifications", {"status": "pending", "since": "all"}),
    "untold": (
        "Show the notifications that were given up",
        "console.notifications",
        {"status": "dead", "since": "all"},
    ),
    "dead": ("Show the events that were given up", "console.dead", {}),
    "runs": ("Show the runs", "console.runs", {}),
    "incident": ("Show the oldest incident", "console.incident", {}),
}


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure: its state is good, wait or bad, and `more` says how old it is or what it is of."""

    name: str
    value: str
    more: str
    state: str = "good"
    page: str = ""  # that shows more: the endpoint, and the status that is chosen there
    status: str = ""


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/; asked for as a part (htmx), only what changes."""

    @routes.get("/", strict_slashes=False)
    def now() -> Response:
        database, moment = services.database, services.clock.now()
        summary = glance(database=database, clock=services.clock, broker=services.queue.trouble())
        counted = read_chart(database=database, now=moment, minutes=60, step=1)
        budget = services.settings.stripe_max_per_second
        return page(
            "now_part.html" if g.is_part else "now.html",
            troubles=[_led(trouble, summary) for trouble in summary["troubles"]],
            groups=[
                ("What waits", list(_waiting(summary))),
                ("Who is there", list(_processes(summary["there"]))),
                ("Between Stripe and us, in the last hour", list(_at_stripe(summary, counted, budget))),
            ],
            stripe=summary["stripe"],
            at=summary["at"],
        )


def _led(trouble: Mapping[str, Any], summary: Mapping[str, Any]) -> dict[str, Any]:
    """A trouble with its first sentence apart, and the page that shows it, where there is one."""
    first, _, rest = trouble["sentence"].partition(". ")
    shown: dict[str, Any] = {"first": f"{first}." if rest else first, "rest": rest, "command": trouble["command"]}
    if trouble["subject"] in SHOWN_AT:
        label, endpoint, values = SHOWN_AT[trouble["subject"]]
        if trouble["subject"] == "incident":
            values = {"id": str(summary["oldest_incident"])}
        shown |= {"label": label, "address": url_for(endpoint, **values)}
    return shown


def _waiting(summary: Mapping[str, Any]) -> Iterator[Tile]:
    now: datetime = summary["at"]

    def waits(name: str, counted: Mapping[str, Any], patience: timedelta, to: str = "") -> Tile:
        number, oldest = counted.get("pending", 0), counted["oldest_pending_at"]
        if not number or oldest is None:
            return Tile(name, "0", "none waits", page=to, status="pending")
        late = now - oldest > patience
        return Tile(
            name, f"{number:,}", f"the oldest from {ago(oldest, now)}", "bad" if late else "wait", to, "pending"
        )

    def given_up(name: str, number: int, more: str, to: str, status: str = "") -> Tile:
        return Tile(name, f"{number:,}", more if number else "none", "bad" if number else "good", to, status)

    checkouts, events, messages = summary["checkouts"], summary["events"], summary["messages"]
    yield waits("Checkouts", checkouts, CHECKOUT_WAITS, "console.checkouts")
    yield waits("Events", events, EVENT_WAITS, "console.events")
    yield waits("Notifications", messages, CHANGE_WAITS, "console.notifications")
    yield given_up("Dead events", events.get("dead", 0), "given up after their attempts", "console.dead")
    unknown = "the application does not know them"
    yield given_up("Dead notifications", messages.get("dead", 0), unknown, "console.notifications", "dead")
    yield given_up("Incidents", sum(summary["incidents"].values()), "wait for a person", "console.incidents")


def _processes(there: Sequence[Process]) -> Iterator[Tile]:
    for queue in QUEUES:
        yield _those(f"Workers, {queue}", [process for process in there if queue in process.queues])
    yield _those("Beat", [process for process in there if process.kind == "beat"])
    yield _those("Webs", [process for process in there if process.kind == "web"])


def _those(name: str, processes: Sequence[Process]) -> Tile:
    living = [process for process in processes if process.is_there]
    if not processes:
        return Tile(name, "0", "none within a day", "bad")
    seen = f"seen {span(min(process.age_seconds for process in processes))} ago"
    if not living:
        return Tile(name, "0", f"last {seen}", "bad")
    threads = sum(process.threads for process in living)
    return Tile(name, str(len(living)), f"{in_number(threads, 'thread')}, {seen}")


def _at_stripe(
    summary: Mapping[str, Any], counted: Mapping[str, Sequence[int | None]], budget: float
) -> Iterator[Tile]:
    def of_the_hour(name: str) -> int:
        return sum(value or 0 for value in counted[name])

    last = summary["events"]["last_received_at"]
    received = f"the last {ago(last, summary['at'])}" if last else "none yet"
    yield Tile("Deliveries", f"{of_the_hour('deliveries'):,}", received)
    refused = of_the_hour("signatures_refused")
    yield Tile("Refused signatures", f"{refused:,}", "", "bad" if refused else "good")
    busiest, most = max(value or 0 for value in counted["stripe_calls"]), 60 * budget  # one for all processes (WHK-63)
    yield Tile("Calls to Stripe", f"{of_the_hour('stripe_calls'):,}", f"{busiest:,} in a minute, of {most:,.0f}")
    limited = of_the_hour("stripe_429")
    yield Tile(
        "429 from Stripe", f"{limited:,}", "asked to slow down" if limited else "", "wait" if limited else "good"
    )
    age = summary["reconcile"]["age_seconds"]
    if age:
        yield Tile("Reconciled", span(age), "ago, by Stripe's time", "bad" if age > RECONCILE_LATE_SECONDS else "good")
    else:
        yield Tile("Reconciled", "never", "it is due within minutes", "wait")
