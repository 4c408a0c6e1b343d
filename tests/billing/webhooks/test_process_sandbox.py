"""The whole walk over the sandbox: a buyer pays, the events come in any order, the user reads their access.

Here the shapes are Stripe's own (as the sandbox gives them), read through the real gateway and the real SDK.
"""

import random

import pytest
import sqlalchemy as sa

from billing.coordination.queue import InlineQueue
from billing.models import attempts, checkouts, events, outbox
from billing.subscriptions.queries import read_subscription
from tests.support.builders import SECRET, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive
from tests.support.working import work_due


@pytest.fixture
def world(database):
    """A ledger, a sandbox and a shop."""
    return World(database)


def read(world, user="user_1"):
    """What the user reads."""
    return read_subscription(user, database=world.database, catalog=world.catalog, clock=world.clock)


def deliver_all(world, *, seed=1):
    """Every event that the sandbox made so far, shuffled and twice, and the wake-ups that came of it."""
    made = world.objects("event") * 2
    random.Random(seed).shuffle(made)
    queue = InlineQueue()
    for event in made:
        body, header = deliver(event, at=world.clock.now())
        places = {"database": world.database, "queue": queue, "clock": world.clock}
        receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **places)
    places = {"database": world.database, "queue": queue, "clock": world.clock, "catalog": world.catalog}
    work_due(stripe=world.stripe, **places)
    with world.database.read() as connection:
        return set(connection.scalars(sa.select(events.c.status)))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_buyer_who_paid_has_access_when_the_events_are_worked(world, seed):
    """WHK-13, SUB-3, SUB-6, SUB-9, whatever order they come in."""
    checkout = world.served("standard")
    assert read(world)["access"]["reason"] == "no_subscription"
    world.sandbox.pay(checkout.session_id)
    assert deliver_all(world, seed=seed) <= {"done", "ignored"}
    answer = read(world)
    assert answer["access"] == {"granted": True, "reason": "active", "until": None}
    assert (answer["subscription"]["plan"], answer["subscription"]["status"]) == ("standard", "active")
    assert answer["subscription"]["current_period_end"].endswith("Z")
    with world.database.read() as connection:
        assert connection.scalars(sa.select(attempts.c.outcome)).all() == ["completed"]
        [change] = connection.execute(sa.select(outbox.c.kind, outbox.c.payload)).all()
        assert connection.scalars(sa.select(checkouts.c.id)).all() == [checkout.id]
    assert (change.kind, change.payload["user_id"]) == ("subscription.activated", "user_1")
    assert world.view(checkout.id).status == "completed"


def test_twelve_events_of_a_payment_cost_few_requests(world):
    """WHK-14: the shuffled burst of a whole checkout, twice."""
    checkout = world.served("standard")
    world.sandbox.pay(checkout.session_id)
    before = len(world.requests())
    deliver_all(world)
    assert [request["path"] for request in world.requests()[before:] if request["path"] == "/v1/subscriptions"] == [
        "/v1/subscriptions"
    ]
    assert len(world.requests()) - before <= 3  # subscriptions, the session, and the customer at most


def test_buyer_whose_delayed_payment_is_on_its_way_is_judged_as_stripe_judges(world):
    """SUB-12: completed is not paid; the subscription's own status decides."""
    checkout = world.served("standard")
    world.sandbox.pay(checkout.session_id, delayed=True)
    deliver_all(world)
    answer = read(world)
    [subscription] = world.objects("subscription")
    assert answer["subscription"]["status"] == subscription["status"]
    assert answer["access"]["granted"] is (subscription["status"] in ("active", "trialing"))


def test_customer_deleted_at_stripe_loses_access(world):
    """SUB-5, faults row 60."""
    checkout = world.served("standard")
    world.sandbox.pay(checkout.session_id)
    deliver_all(world)
    [customer] = world.objects("customer")
    world.sandbox.request("DELETE", f"/v1/customers/{customer['id']}")
    world.clock.advance(seconds=1)
    assert deliver_all(world) <= {"done", "ignored"}
    assert read(world)["access"]["granted"] is False


def test_subscription_that_the_list_does_not_show_yet_is_fetched_by_its_id(world):
    """SUB-22, WHK-13: Stripe's lists promise no read-after-write, and no further event may come."""
    checkout = world.served("standard")
    world.sandbox.faults.add("stale_list", method="GET", path="/v1/subscriptions", seconds=60, times=None)
    world.sandbox.pay(checkout.session_id)
    deliver_all(world)
    assert read(world)["access"]["granted"]


def test_subscription_that_the_list_no_longer_shows_is_not_taken_for_gone(world):
    """SUB-22: a list from before it was made, after a failover on their side, say."""
    checkout = world.served("standard")
    world.sandbox.pay(checkout.session_id)
    deliver_all(world)
    world.sandbox.faults.add("stale_list", method="GET", path="/v1/subscriptions", seconds=3600, times=None)
    world.sandbox.request("POST", f"/v1/customers/{world.objects('customer')[0]['id']}", {"name": "Ann"})
    deliver_all(world)
    assert read(world)["access"]["granted"]
