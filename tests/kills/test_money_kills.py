"""A worker dies or freezes while it gives money back, fetches a customer who was taken over, or ends two subscriptions.

Real web, Celery workers, Valkey, PostgreSQL, and the sandbox. Another worker finishes: nothing is given back twice or
left out, the application is told once whose a subscription is, and each subscription is ended once. `KILLS=full` takes
every step.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from billing.duplicates.bills import MARK
from billing.models import customers, incidents, outbox, remedies
from tests.kills.asking import in_background, thaw
from tests.kills.steps import FULL
from tests.kills.subscribers import PRICE, Subscribers
from tests.kills.world import END_SECONDS, LOCK_SECONDS, World, running_world
from tests.support.databases import Postgres
from tests.support.valkey import wait_until

Json = dict[str, Any]
CREDIT = 400  # of what the second subscription costs
REMEDIES = [("plan", "commit"), ("cancel", "before"), ("cancel", "after"), ("refund", "before"), ("refund", "after"),
            ("credit", "before"), ("credit", "after"), ("answer", "commit"), ("settle", "commit")]  # fmt: skip
FROZEN = [("cancel", "before"), ("refund", "before"), ("credit", "before")]
REMEDY_CELLS = [(*step, "kill") for step in REMEDIES] + [(*step, "stop") for step in FROZEN]
REMEDY_QUICK = [("cancel", "after", "kill"), ("refund", "after", "kill"), ("credit", "after", "kill"),
                ("credit", "before", "stop")]  # fmt: skip
TAKEN = [("due", "before"), ("fetch", "before"), ("fetch", "after"), ("write", "commit")]
TAKEN_QUICK = [("fetch", "after"), ("write", "commit")]
CANCELS = [("send-0", "before"), ("update", "after"), ("send-0", "after"), ("send-1", "before"), ("send-1", "after"),
           ("finish", "commit")]  # fmt: skip
CANCELS_QUICK = [("update", "after"), ("send-1", "before")]
SHORT = {"KILLS_LEASE_SECONDS": "2", "KILLS_VISIBILITY_SECONDS": "5"}
pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module", params=["cancel_newest"])
def world(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("money")
    with (
        postgres.fresh() as database,
        running_world(
            folder, database=database, workers=4, sweep_seconds=1, DUPLICATE_POLICY=request.param, **SHORT
        ) as running,
    ):
        yield running


@pytest.mark.parametrize("cell", REMEDY_CELLS if FULL else REMEDY_QUICK, ids=" ".join)
def test_money_goes_back_once_whatever_died(world: World, buyers: Subscribers, cell: tuple[str, str, str]) -> None:
    """SUB-19, SUB-20, SUB-112, SUB-113; fault 97: by card and by credit."""
    step, moment, what = cell
    whose = buyers.new()
    [kept] = buyers.subscriptions(whose)
    buyers.ask("POST", f"/v1/customers/{whose}/balance_transactions", {"amount": -CREDIT, "currency": "usd"})
    world.stripe.control("POST", "/_sandbox/clock", {"advance_seconds": 2})  # so that it is the newer one
    world.arm(whose, step, moment, what)
    form = {"customer": whose, "items[0][price]": PRICE, "metadata[type]": "kiloclaw"}
    second = buyers.ask("POST", "/v1/subscriptions", form)["id"]
    pid = world.tripped(whose)
    try:
        given_back(world, buyers, whose, kept=kept["id"], second=second)
        if what == "stop":
            time.sleep(LOCK_SECONDS + 1)  # no sleep that hides a race: the lock of whoever is frozen has to end
    finally:
        if what == "stop":
            thaw(pid)
    if what == "stop":
        log = world.folder / "logs" / f"{pid}.log"
        wait_until(lambda: "lock.lapsed" in log.read_text("utf-8"), "the frozen one ended", END_SECONDS)
        given_back(world, buyers, whose, kept=kept["id"], second=second)


def given_back(world: World, buyers: Subscribers, whose: str, *, kept: str, second: str) -> None:
    """Wait until the remedy is over; then exactly what was taken is back, the incident is over, the older one lives."""

    def state() -> list[str]:
        with world.database.read() as connection:
            rows = sa.select(remedies.c.state).where(remedies.c.customer_id == whose)
            return list(connection.scalars(rows))

    wait_until(lambda: state() == ["refunded"], f"the remedy of {whose} is over: {state()}", END_SECONDS)
    live = [one["id"] for one in buyers.subscriptions(whose) if one["status"] == "active"]
    assert live == [kept]
    [bill] = buyers.ask("GET", f"/v1/invoices?subscription={second}")["data"]
    [payment] = buyers.ask("GET", f"/v1/invoice_payments?invoice={bill['id']}")["data"]
    intent = payment["payment"]["payment_intent"]
    refunds = buyers.ask("GET", f"/v1/refunds?payment_intent={intent}")["data"]
    assert [one["amount"] for one in refunds] == [bill["amount_paid"]]
    moves = buyers.ask("GET", f"/v1/customers/{whose}/balance_transactions?limit=100")["data"]
    assert [one["amount"] for one in moves if one["metadata"].get(MARK)] == [-CREDIT]
    assert buyers.ask("GET", f"/v1/customers/{whose}")["balance"] == -CREDIT
    with world.database.read() as connection:
        about = (incidents.c.customer_id == whose, incidents.c.kind == "duplicate_subscription")
        still = sa.select(incidents.c.id).where(*about, incidents.c.resolved_at.is_(None))
        assert connection.scalars(still).all() == []


@pytest.mark.parametrize("step", TAKEN if FULL else TAKEN_QUICK, ids=" ".join)
def test_customer_who_was_taken_over_is_fetched_whatever_died(
    world: World, buyers: Subscribers, step: tuple[str, str]
) -> None:
    """SUB-70, SUB-71; fault 98: and the application is told once whose the subscription is."""
    whose, user_id = buyers.new(), f"taken-{'-'.join(step)}"
    world.arm(whose, *step, "kill")
    said = in_background(lambda: world.call("PUT", f"/v1/customers/{user_id}", {"customer_id": whose}, wait=2))
    world.tripped(whose)
    assert said().status == 200

    def due() -> Any:
        with world.database.read() as connection:
            return connection.scalar(sa.select(customers.c.sync_due_at).where(customers.c.user_id == user_id))

    wait_until(lambda: due() is None, f"{user_id} was fetched", END_SECONDS)
    assert world.call("GET", f"/v1/subscription?user_id={user_id}", None, wait=None).body["access"]["granted"]
    with world.database.read() as connection:
        rows = sa.select(outbox.c.payload).where(outbox.c.customer_id == whose).order_by(outbox.c.id)
        told = list(connection.scalars(rows))
    assert [one["user_id"] for one in told if one["user_id"]] == [user_id]


@pytest.mark.parametrize("step", CANCELS if FULL else CANCELS_QUICK, ids=" ".join)
@pytest.mark.parametrize("world", ["alert"], indirect=True)
def test_both_subscriptions_end_once_whatever_died(world: World, buyers: Subscribers, step: tuple[str, str]) -> None:
    """SUB-30, SUB-36, SUB-84; fault 99"""
    whose, user_id = buyers.new(), f"leaves-{'-'.join(step)}"
    assert world.call("PUT", f"/v1/customers/{user_id}", {"customer_id": whose}, wait=10).status == 200
    buyers.ask("POST", "/v1/subscriptions", {"customer": whose, "items[0][price]": PRICE})
    world.arm(user_id, *step, "kill")
    said = in_background(lambda: world.call("POST", "/v1/subscription/cancel", {"user_id": user_id}, wait=2))
    world.tripped(user_id)
    answer = said()
    while answer.status == 202:
        answer = world.read(answer.location or f"/v1/operations/{answer.body['id']}", user_id)
    assert answer.body["status"] == "succeeded", answer
    both = buyers.subscriptions(whose)
    assert [one["cancel_at"] == one["items"]["data"][0]["current_period_end"] for one in both] == [True, True]
    about = [one for one in buyers.events() if one["type"] == "customer.subscription.updated"]
    ended = [one["data"]["object"]["id"] for one in about if "cancel_at" in one["data"]["previous_attributes"]]
    assert sorted(id_ for id_ in ended if id_ in {one["id"] for one in both}) == sorted(one["id"] for one in both)
