"""Setup: what this web sees, what a worker found with Stripe's key when it was asked, and the catalog's prices."""

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

from flask import Blueprint, Response

from app.cli.web_checks import examine_identity
from app.console.actions import Button, act, command_line, done, wake
from app.console.shown import page
from billing.coordination.jobs import Examine
from billing.doctor import examinations
from billing.doctor.alive import examine_deliveries, examine_processes
from billing.doctor.finding import Finding, Verdict, guarded
from billing.doctor.given import examine_settings
from billing.doctor.servers import examine_servers
from billing.rules.money import in_words
from billing.rules.words import in_number
from billing.services import Services

TONES = {Verdict.OK: "good", Verdict.WARNING: "wait", Verdict.UNAVAILABLE: "bad", Verdict.WRONG: "bad"}
KEY = "STRIPE_API_KEY is not set."  # as it has to be of a web
BUTTON = Button(
    "Ask a worker",
    "console.examine",
    "It looks at Stripe's account, the webhook endpoint, prices, portal and clocks. Nothing is tried or changed there.",
    command_line("doctor", "--read-only", reason=False),
    asks_reason=False,
)


def add_pages(routes: Blueprint, services: Services) -> None:
    """GET /console/setup, and /setup/web for what takes the web a moment to see; POST /setup/examine."""
    database, clock = services.database, services.clock

    @routes.get("/setup")
    def setup() -> Response:
        answered, waiting = examinations.newest(database=database)
        prices = [_compared(row) for row in answered["prices"]] if answered else []
        return page(
            "setup.html",
            answered=answered,
            waiting=waiting,
            prices=prices,
            tones=TONES,
            button=BUTTON,
            done=done(services),
        )

    @routes.get("/setup/web")
    def setup_web() -> Response:
        return page("findings.html", findings=list(_seen_here(services)), tones=TONES)

    @routes.post("/setup/examine")
    def examine() -> Response:
        def work(_reason: str) -> str:
            row_id = examinations.ask(database=database, clock=clock)
            return f"asked for: {wake(Examine(row_id), services)}"

        return act("doctor", "the installation", work, services=services, back="console.setup", asks_reason=False)


def _seen_here(services: Services) -> Iterator[Finding]:
    """Doctor's lines that need no key of Stripe's. A server that does not answer takes some seconds."""
    settings, database = services.settings, services.database
    yield from (one for one in examine_settings(settings, os.environ) if not one.sentence.startswith(KEY))
    yield from examine_servers(settings)
    yield from guarded("identity", partial(examine_identity, settings))
    yield from guarded("workers", lambda: examine_processes(database))
    yield from guarded("deliveries", lambda: examine_deliveries(database, clock=services.clock))


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    """A plan's price in words, from the catalog and from Stripe, and whether they differ in what the catalog shows."""
    catalog, stripe = row["catalog"], row["stripe"]
    differs = stripe is None or not stripe["active"]
    differs = differs or any(value is not None and stripe[name] != value for name, value in catalog.items())
    return {
        **{name: row[name] for name in ("plan", "price")},
        "catalog": _in_words(catalog),
        "stripe": _in_words(stripe) if stripe else "Stripe has no such price",
        "archived": bool(stripe) and not stripe["active"],
        "differs": differs,
    }


def _in_words(price: dict[str, Any]) -> str:
    shows = price["amount"] is not None and price["currency"]
    amount = in_words(price["amount"], price["currency"]) if shows else "an amount that is not shown"
    count = price["interval_count"]
    every = price["interval"] if count in (None, 1) else in_number(count, price["interval"])
    return (
        f"{amount}, every {every}{', by use' if price['metered'] else ''}" if price["interval"] else f"{amount}, once"
    )
