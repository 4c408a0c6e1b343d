"""Customers at the sandbox with a subscription each, whose changes come as webhooks, and the end check E for those.

E: Stripe has a 2xx for each event, each is one row that is done, nothing waits, the projection is what Stripe says, and
the application is told of no state twice.
"""

import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from billing.errors import LedgerUnavailable
from billing.models import events, outbox, subscriptions
from billing.webhooks.event_types import FOLLOWED
from tests.bench.storm import KEY
from tests.kills.world import END_SECONDS, World

Json = dict[str, Any]
PRICE = "price_kiloclaw_standard"
CLOSED = {"done", "ignored"}
LOST = "events are not in the ledger"


class Subscribers:
    """They are known to Stripe only: a projection needs no more than an event."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._address = f"http://127.0.0.1:{world.proxy.target}"

    def new(self) -> str:
        """A customer with a subscription, of which everything has been told; the customer's id."""
        return self.some(1)[0]

    def some(self, count: int) -> list[str]:
        """So many of them."""
        made = [str(self.ask("POST", "/v1/customers")["id"]) for _ in range(count)]
        for customer_id in made:
            self._world.stripe.control("POST", f"/_sandbox/customers/{customer_id}/card", {})
            self.ask("POST", "/v1/subscriptions", {"customer": customer_id, "items[0][price]": PRICE})
        self.settled(made)
        return made

    def change(self, customer_id: str) -> str:
        """Cancel at the end of the period, or take that back; the event's id."""
        one = self.subscriptions(customer_id)[0]
        ends = "false" if one["cancel_at_period_end"] else "true"
        self.ask("POST", f"/v1/subscriptions/{one['id']}", {"cancel_at_period_end": ends})
        return next(event["id"] for event in self.events() if event["data"]["object"]["id"] == one["id"])

    def ask(self, method: str, path: str, form: Json | None = None) -> Json:
        """One request to the API, past every fault."""
        data = urllib.parse.urlencode(form or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self._address + path, data, {"Authorization": f"Bearer {KEY}"}, method=method)
        with urllib.request.urlopen(request, timeout=END_SECONDS) as answer:
            found: Json = json.loads(answer.read())
            return found

    def subscriptions(self, customer_id: str) -> list[Json]:
        return list(self.ask("GET", f"/v1/subscriptions?customer={customer_id}&status=all&limit=100")["data"])

    def everybody(self) -> dict[str, list[Json]]:
        """Each customer's subscriptions."""
        found: dict[str, list[Json]] = {}
        after = ""
        while True:
            page = self.ask("GET", f"/v1/subscriptions?status=all&limit=100{after}")
            for one in page["data"]:
                found.setdefault(one["customer"], []).append(one)
            if not page["has_more"]:
                return found
            after = f"&starting_after={page['data'][-1]['id']}"

    def events(self) -> list[Json]:
        """The newest hundred."""
        return list(self.ask("GET", "/v1/events?limit=100")["data"])

    def tries(self, event_id: str) -> list[int | None]:
        """The statuses of an event's deliveries so far; None where nobody answered."""
        found = self._world.stripe.control("GET", f"/_sandbox/deliveries?event={event_id}")["deliveries"]
        return [tried["status"] for one in found for tried in one["tries"]]

    def resend(self) -> None:
        """Deliver again at once whatever has no 2xx yet: Stripe's patience is longer than a test's."""
        left = self._world.stripe.control("GET", "/_sandbox/deliveries?status=pending")["deliveries"]
        self._world.stripe.control("POST", "/_sandbox/deliveries", {"events": [one["event"] for one in left]})

    # --- E

    def settled(self, customers: Sequence[str], *, found: bool = False) -> None:
        """Wait until E holds for these. `found`: by reconciling, which leaves out what nobody follows."""
        deadline = time.monotonic() + END_SECONDS
        while wrong := self._wrong(customers, found):
            assert time.monotonic() < deadline, wrong
            time.sleep(0.1)

    def told(self, customer_id: str) -> int:
        """How many changes the application is told of."""
        query = sa.select(sa.func.count()).select_from(outbox).where(outbox.c.customer_id == customer_id)
        with self._world.database.read() as connection:
            return int(connection.scalar(query) or 0)

    def _wrong(self, customers: Sequence[str], found: bool) -> str | None:
        """The first thing that is not as it has to be."""
        undelivered = self._world.stripe.control("GET", "/_sandbox/deliveries?status=pending")["count"]
        if undelivered:
            return f"{undelivered} events are not delivered"
        with suppress(LedgerUnavailable):
            return unlike_stripe(self._world, customers, self.subscriptions, self._sent_to(customers, found))
        return "the ledger does not answer"

    def _sent_to(self, customers: Iterable[str], found: bool) -> set[str]:
        mine = set(customers)
        theirs = [one for one in self.events() if one["data"]["object"].get("customer") in mine]
        return {one["id"] for one in theirs if not found or one["type"] in FOLLOWED}


def unlike_stripe(
    world: World, customers: Sequence[str], at_stripe: Callable[[str], list[Json]], sent: Iterable[str]
) -> str | None:
    """In what the ledger differs from what has to be in it at the end, if in anything. Raises LedgerUnavailable."""
    with world.database.read() as connection:
        about = (events.c.event_id, events.c.status, events.c.attempts, events.c.next_attempt_at, events.c.error)
        rows = connection.execute(sa.select(*about)).all()
        kept = connection.execute(sa.select(subscriptions).where(subscriptions.c.customer_id.in_(customers))).all()
        query = sa.select(outbox.c.payload).where(outbox.c.customer_id.in_(customers)).order_by(outbox.c.id)
        payloads = list(connection.scalars(query))
    statuses = {row.event_id: row.status for row in rows}
    if len(statuses) != len(rows):
        return "an event has two rows"
    if lost := set(sent) - set(statuses):
        return f"{len(lost)} {LOST}: {sorted(lost)[:3]}"
    if waiting := [tuple(row) for row in rows if row.status not in CLOSED]:
        return f"{len(waiting)} events are not done: {waiting[:3]}"
    here = {row.subscription_id: _kept(row) for row in kept}
    there = {one["id"]: _as_stripe_says(one) for whose in customers for one in at_stripe(whose)}
    if here != there:
        return f"the projection differs: {sorted(set(here.items()) ^ set(there.items()))[:4]}"
    last: dict[str, Json] = {}
    for payload in payloads:
        now = payload["subscription"]
        if last.get(now["id"]) == now:
            return f"told twice: {now}"
        last[now["id"]] = now
    return None


def _kept(row: sa.Row[Any]) -> tuple[Any, ...]:
    return (row.status, row.price_id, row.cancel_at_period_end, row.cancel_at, row.canceled_at, row.current_period_end)


def _as_stripe_says(one: Json) -> tuple[Any, ...]:
    item = one["items"]["data"][0]
    times = (one["cancel_at"], one["canceled_at"], item["current_period_end"])
    ended, since, until = (None if time is None else datetime.fromtimestamp(time, UTC) for time in times)
    return (one["status"], item["price"]["id"], one["cancel_at_period_end"], ended, since, until)
