"""What one checkout costs: calls to Stripe, round trips one after the other, and time. For buyers whom Stripe knows.

A fresh checkout is a buyer's first; a repeat is the same request again, which onelane answers with the same session,
and the usual way by expiring it and creating another.
"""

import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from billing.process.settings import Settings
from tests.bench.storm import Answer, Client, Json, Stripe, buy, buy_as_usual, buyers
from tests.support.running_dev import Dev

SERVER_KEY = "a key of the shop's own server"
RATES = ("rate_limit_checkouts", "rate_limit_different_checkouts", "rate_limit_reads", "rate_limit_addresses")
# For `onelane_shop`, each with a server that may name customers: requests as often as a measurement wants,
UNLIMITED = {**{rate.upper(): "1000000/minute" for rate in RATES}, "AUTH_API_KEYS": SERVER_KEY}
# and the limits that an installation has unless it sets its own.
PRODUCTION = {**{rate.upper(): Settings.model_fields[rate].default for rate in RATES}, "AUTH_API_KEYS": SERVER_KEY}


@dataclass
class Cost:
    """What each of some checkouts cost."""

    seconds: list[float] = field(default_factory=list)
    reads: list[int] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)

    def note(self, seconds: float, calls: Sequence[Json]) -> None:
        reads = sum(call["method"] == "GET" for call in calls)
        self.seconds.append(seconds)
        self.reads.append(reads)
        self.writes.append(len(calls) - reads)
        self.round_trips.append(depth(calls))


def depth(calls: Sequence[Json]) -> int:
    """How many calls waited for each other: the longest row of calls of which each began after the last had ended."""
    count, ended = 0, float("-inf")
    for call in sorted(calls, key=lambda call: float(call["at"])):
        if call["at"] - call["seconds"] >= ended - 0.005:  # the log rounds, and calls side by side overlap by far more
            count, ended = count + 1, call["at"]
    return count


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest of the values."""
    return sorted(values)[round(share * (len(values) - 1))]


def our_costs(dev: Dev, stripe: Stripe, count: int) -> tuple[Cost, Cost]:
    """Fresh and repeated checkouts of so many buyers, one at a time."""
    users = know(dev, stripe, [f"known-{number}" for number in range(count)])
    shop = f"http://127.0.0.1:{dev.port}"

    def visit(user_id: str) -> list[Answer]:
        (window,) = buyers(dev, user_id, 1)
        return _timed(window, partial(buy, 0, window, shop=shop))

    return _cost(visit, users, stripe), _cost(visit, users, stripe)


def usual_costs(address: str, stripe: Stripe, folder: Path, count: int) -> tuple[Cost, Cost]:
    """The same of the usual way."""
    users = [f"known-{number}" for number in range(count)]
    with sqlite3.connect(folder / "naive.sqlite3") as database:
        for user_id in users:
            database.execute("INSERT INTO users VALUES (?, ?)", (user_id, new_customer(stripe)))

    def visit(user_id: str) -> list[Answer]:
        window = Client(address)
        return _timed(window, partial(buy_as_usual, 0, window, user_id=user_id))

    return _cost(visit, users, stripe), _cost(visit, users, stripe)


def know(dev: Dev, stripe: Stripe, users: list[str]) -> list[str]:
    """Let users have a customer at Stripe, as after an import."""
    server = Client(f"http://127.0.0.1:{dev.port}", Authorization=f"Bearer {SERVER_KEY}")
    for user_id in users:
        answer = server.ask("PUT", f"/v1/customers/{user_id}", {"customer_id": new_customer(stripe)})
        assert answer.status == 200, answer
    server.close()
    return users


def new_customer(stripe: Stripe) -> str:
    return str(stripe.control("POST", "/v1/customers")["id"])


def round_trip(stripe: Stripe, count: int = 10) -> float:
    """What one call takes over a connection that is open already, as workers' are; the median."""
    client = stripe.client()
    times = []
    for _ in range(count):
        started = time.monotonic()
        client.ask("GET", "/v1/checkout/sessions?limit=1")
        times.append(time.monotonic() - started)
    client.close()
    return statistics.median(times)


def be_far(stripe: Stripe, seconds: float) -> float:
    """Let every call take so long in all, what the sandbox itself takes included; what one is measured to take."""
    stripe.slow_down(seconds)
    stripe.slow_down(2 * seconds - round_trip(stripe))
    return round_trip(stripe)


def _cost(visit: Callable[[str], list[Answer]], users: Sequence[str], stripe: Stripe) -> Cost:
    cost = Cost()
    for user_id in users:
        stripe.forget_calls()
        answers = visit(user_id)
        assert answers[-1].url, answers
        cost.note(answers[-1].came_at - answers[0].sent_at, stripe.calls_so_far())
    return cost


def _timed(window: Client, act: Callable[[], list[Answer]]) -> list[Answer]:
    try:
        return act()
    finally:
        window.close()
