"""A world for the reconciler: a shop on a real ledger, the sandbox in process, deliveries that a test may lose."""

from collections.abc import Callable, Iterable
from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import Job, WorkEvents
from billing.maintenance import runs
from billing.maintenance.reconcile import reconcile
from billing.maintenance.reconcile_steps import Context
from billing.maintenance.runs import Run
from billing.models import events, subscriptions
from billing.operators.installation import insert_first
from billing.subscriptions.projection import Subscription, project
from billing.subscriptions.queries import read_subscription
from sandbox.api import ACCOUNT
from tests.support.builders import SECRET, deliver
from tests.support.checkout_world import World
from tests.support.receiving import receive
from tests.support.working import work_due

Json = dict[str, Any]


class Shop(World):
    """A World whose events are delivered by hand."""

    def __post_init__(self) -> None:
        super().__post_init__()
        with self.database.write() as connection:
            bound = {"stripe_account": ACCOUNT, "livemode": False, "bound_at": self.clock.now()}
            insert_first(connection, **bound)

    def places(self) -> Json:
        """What flows are handed."""
        return {"database": self.database, "queue": self.queue, "clock": self.clock}

    def subscribe(self, user: str) -> str:
        """A buyer asks, is answered and pays; the customer's id."""
        checkout = self.served("standard", user=user)
        self.sandbox.pay(str(checkout.session_id))
        return str(self.objects("subscription")[0]["customer"])

    def made(self) -> list[Json]:
        """Every event at Stripe, oldest first."""
        return self.objects("event")[::-1]

    def deliver(self, made: Iterable[Json]) -> None:
        """These arrive."""
        for event in made:
            body, header = deliver(event, at=self.clock.now())
            receive(body, header, secrets=[SECRET], max_bytes=1 << 20, **self.places())

    def work_events(self) -> None:
        """Work what waits, as workers and sweep would."""
        self.process(WorkEvents())
        self.queue.sent.clear()  # what waits for a later moment waits here for ever: the clock stands still

    def process(self, _job: Job) -> None:
        """Work one wake-up."""
        work_due(stripe=self.stripe, catalog=self.catalog, **self.places())

    def told(self) -> None:
        """What is new at Stripe arrives and is worked."""
        self.queue.sent.clear()
        self.deliver(self.made())
        self.work_events()

    def read(self, user: str = "user_1") -> Json:
        """What the user reads."""
        return read_subscription(user, database=self.database, catalog=self.catalog, clock=self.clock)

    def reconcile(self, **instead: Any) -> Run | None:
        """One run, a few minutes later: no delivery is on its way any more."""
        self.clock.advance(minutes=5)
        places = {**self.places(), "stripe": self.stripe, "locks": self.locks, "catalog": self.catalog, "dry": False}
        places |= {name: instead.pop(name) for name in Context.__dataclass_fields__ if name in instead}
        return reconcile(Context(**places), **instead)

    # --- what is then

    def run_row(self, row_id: int = 1) -> Run:
        """The row of the reconciler."""
        with self.database.read() as connection:
            return runs.read(connection, row_id)

    def found(self) -> set[str]:
        """The ids of the events that reconciling recorded."""
        return {row.event_id for row in self.rows(events) if row.source == "reconciled"}

    def projection(self) -> dict[str, Subscription]:
        """What the ledger says."""
        columns = [subscriptions.c[name] for name in Subscription.__slots__]
        with self.database.read() as connection:
            rows = [Subscription(**row._mapping) for row in connection.execute(sa.select(*columns))]
        return {row.subscription_id: row for row in rows}

    def truth(self) -> dict[str, Subscription]:
        """What Stripe says, as it would be projected (since when something is past due, only we know)."""
        known = self.projection()
        return {
            one["id"]: project(
                one,
                customer_id=one["customer"],
                catalog=self.catalog,
                schedule=None,
                before=known.get(one["id"]),
                now=self.clock.now(),
            )
            for one in self.objects("subscription")
        }


def every(number: int) -> Callable[[list[Json]], list[Json]]:
    """All of them but each so manieth."""
    return lambda made: [one for place, one in enumerate(made) if place % number != number - 1]


def tagged_subscription(shop: Shop, customer: str) -> str:
    """Made elsewhere, for a customer of whom we never heard."""
    shop.sandbox.seed([{"object": "customer", "id": customer, "card": "pm_card_visa"}])
    price = shop.catalog.plans["standard"].price
    made = shop.sandbox.request(
        "POST",
        "/v1/subscriptions",
        {"customer": customer, "items": [{"price": price}], "metadata": {"type": shop.catalog.product}},
    )
    assert made.status == 200, made.body
    return str(made.body["id"])
