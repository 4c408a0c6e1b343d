"""Charts of the last hour and day, from the counts that the ledger keeps by the minute. The first page loads them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, request

from app.console.shown import page
from billing.operators.minutes import DAY, HOUR, WAITING, read_chart
from billing.services import Services

SPANS = {"hour": ("The last hour", *HOUR), "day": ("The last day", *DAY)}
# Each chart's lines: the name in the ledger, and how the line is called.
CHARTS = {
    "Deliveries": (("deliveries", "deliveries"), ("signatures_refused", "refused signatures")),
    "Checkouts": (("checkouts", "checkouts"),),
    "Notifications": (("changes_delivered", "delivered"), ("changes_failed", "failed")),
    "Calls to Stripe": (("stripe_calls", "calls"), ("stripe_429", "answered 429")),
    "What waits": (("events_pending", "pending events"), ("changes_untaken", "undelivered notifications")),
    "How long the oldest waits": (
        ("events_oldest_seconds", "s an event"),
        ("checkouts_oldest_seconds", "s a checkout"),
    ),
}
TROUBLES = {"signatures_refused", "changes_failed", "stripe_429"}


@dataclass(frozen=True, slots=True)
class Chart:
    """One chart: its title, what it says in words, and what the script draws."""

    title: str
    words: str
    data: dict[str, Any]


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/charts?span=hour|day; asked for as a part (htmx), without the page around it."""

    @routes.get("/charts")
    def charts() -> Response:
        span = request.args.get("span", "")
        span = span if span in SPANS else "hour"
        title, minutes, step = SPANS[span]
        found = read_chart(database=services.database, now=services.clock.now(), minutes=minutes, step=step)
        return page(
            "charts_part.html" if g.is_part else "charts.html",
            title=title,
            span=span,
            spans=[(name, SPANS[name][0]) for name in SPANS],
            charts=list(_charts(found)),
        )


def _charts(found: Mapping[str, Sequence[Any]]) -> Iterator[Chart]:
    for title, lines in CHARTS.items():
        words = ", ".join(f"{_in_words(name, found[name])} {label}" for name, label in lines)
        series = [{"label": label, "values": found[name], "is_bad": name in TROUBLES} for name, label in lines]
        yield Chart(title, words, {"at": found["at"], "series": series})


def _in_words(name: str, values: Sequence[int | None]) -> str:
    """The sum of what was counted; of what waits, the most."""
    there = [value for value in values if value is not None]
    return f"at most {max(there, default=0):,}" if name in WAITING else f"{sum(there):,}"
