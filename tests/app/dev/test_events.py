"""Events doubled, shuffled, dropped and sent again, and the worker killed in the middle: what is left equals Stripe.

The common end check of both protocols: nothing pending in the ledger, every event that Stripe has is in it once,
and every user's subscription is what the sandbox says.
"""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bench.storm import Client, Stripe, buyers, onelane_shop, order
from tests.support.running_dev import Dev, onelane, wait_until

CUSTOMERS = 20
SHOP = "https://app.example.com"
# The sweep comes every 30 s, and a killed worker's claim lapses after 25 s: the third sweep may find it.
END_SECONDS = 100
Json = dict[str, Any]


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[tuple[Dev, Stripe]]:
    with onelane_shop(tmp_path, REDIRECT_ORIGINS=SHOP, RATE_LIMIT_READS="1000000/minute") as running:
        yield running


@pytest.mark.timeout(180)
def test_projection_equals_stripe_after_doubled_shuffled_dropped_events_and_a_killed_worker(
    shop: tuple[Dev, Stripe],
) -> None:
    """WHK-13, LED-1, LED-3, LED-8, OPS-8: E of the table of faults."""
    dev, stripe = shop
    clients = {f"user-{number}": buyers(dev, f"user-{number}", 1)[0] for number in range(CUSTOMERS)}
    bought = {user_id: _open(client) for user_id, client in clients.items()}
    stripe.control("POST", "/_sandbox/deliveries", {"duplicate": 2, "shuffle": True, "drop": 30})

    for number, session in enumerate(bought.values()):
        stripe.control("POST", f"/_sandbox/checkout_sessions/{session['session_id']}/pay", {})
        if number in (5, 15):
            _kill_worker(dev)
    subscriptions = _subscriptions(stripe)
    assert len(subscriptions) == CUSTOMERS
    for number, subscription in enumerate(subscriptions.values()):
        if number % 3 == 0:
            stripe.control("DELETE", f"/v1/subscriptions/{subscription['id']}")
        elif number % 3 == 1:
            stripe.control("POST", f"/_sandbox/subscriptions/{subscription['id']}/status", {"status": "past_due"})
        if number == 10:
            _kill_worker(dev)

    wait_until(
        lambda: (
            _as_read(clients) == _as_stripe_has_it(_subscriptions(stripe), bought, stripe) and _at_rest(dev, stripe)
        ),
        lambda: (
            f"{_as_read(clients)}\n{_as_stripe_has_it(_subscriptions(stripe), bought, stripe)}\n{dev.output[-4000:]}"
        ),
        seconds=END_SECONDS,
    )
    assert {status for _, status in _as_read(clients).values()} == {"active", "past_due", "canceled"}
    recorded = _events(dev)
    assert {event["id"] for event in _all(stripe, "/v1/events")} == {event["event_id"] for event in recorded}
    assert len({event["event_id"] for event in recorded}) == len(recorded)
    assert dev.output.count("worker was killed by signal 9") == 3
    for client in clients.values():
        client.close()


def _open(client: Client) -> Json:
    answer = client.ask("POST", "/v1/checkouts", order(SHOP), Prefer="wait=20")
    assert answer.status == 201, answer
    return answer.body


def _kill_worker(dev: Dev) -> None:
    """While it works: at once, without a word."""
    back = dev.output.count("worker is back")
    os.kill(dev.children()["worker"], signal.SIGKILL)
    wait_until(lambda: dev.output.count("worker is back") > back, lambda: dev.output)


def _subscriptions(stripe: Stripe) -> dict[str, Json]:
    return {one["customer"]: one for one in _all(stripe, "/v1/subscriptions", "status=all&")}


def _as_stripe_has_it(
    subscriptions: dict[str, Json], bought: dict[str, Json], stripe: Stripe
) -> dict[str, tuple[str, str]]:
    sessions = stripe.sessions()
    owner = {user_id: sessions[session["session_id"]]["customer"] for user_id, session in bought.items()}
    found = {user_id: subscriptions[customer] for user_id, customer in owner.items()}
    return {user_id: (one["id"], one["status"]) for user_id, one in found.items()}


def _as_read(clients: dict[str, Client]) -> dict[str, tuple[str, str]]:
    read = {user_id: client.ask("GET", "/v1/subscription").body for user_id, client in clients.items()}
    shown = {user_id: answer["subscription"] or {} for user_id, answer in read.items()}
    return {user_id: (one.get("id", ""), one.get("status", "")) for user_id, one in shown.items()}


def _at_rest(dev: Dev, stripe: Stripe) -> bool:
    delivered = stripe.control("GET", "/_sandbox/state")["pending_deliveries"] == 0
    return delivered and not [event for event in _events(dev) if event["status"] in ("pending", "dead")]


def _events(dev: Dev) -> list[Json]:
    listed = onelane("events", "list", "--json", "--limit", "10000", folder=dev.folder)
    assert listed.returncode == 0, listed.stderr
    found: list[Json] = json.loads(listed.stdout)
    return found


def _all(stripe: Stripe, path: str, query: str = "") -> list[Json]:
    found: list[Json] = []
    while True:
        after = f"&starting_after={found[-1]['id']}" if found else ""
        page = stripe.control("GET", f"{path}?{query}limit=100{after}")
        found += page["data"]
        if not page["has_more"]:
            return found
