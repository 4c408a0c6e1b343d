"""A world in which buyers have a subscription and change it."""

from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import WorkLane, WorkOperations
from billing.maintenance.sweep import sweep
from billing.models import operations
from billing.operations.calls import Kind
from billing.operations.requests import read_operation
from billing.operations.store import OperationView
from billing.subscriptions.queries import read_subscription
from tests.support.checkout_world import ORIGIN, World

RETURN = {"return_url": f"{ORIGIN}/account"}


def is_ending(subscription: Any) -> bool:
    """Whether Stripe ends it with the period of its first item."""
    return bool(subscription["cancel_at"] == subscription["items"]["data"][0]["current_period_end"])


def change(shop: World, path: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """What somebody else changes at Stripe."""
    answer = shop.sandbox.request("POST", f"/v1/{path}", parameters)
    assert answer.status == 200, answer.body
    return dict(answer.body)


def schedule(shop: World, subscription: str, *, then: list[dict[str, Any]], **fields: Any) -> str:
    """Finance puts the subscription under a schedule; `then` are the phases after the current one."""
    made = change(shop, "subscription_schedules", {"from_subscription": subscription})
    phase = made["phases"][0]
    items = [{"price": item["price"], "quantity": item["quantity"]} for item in phase["items"]]
    first = {"items": items, "start_date": phase["start_date"], "end_date": phase["end_date"]}
    change(shop, f"subscription_schedules/{made['id']}", {"phases": [first, *then], **fields})
    return str(made["id"])


def year(shop: World, plan: str = "standard", **fields: Any) -> dict[str, Any]:
    """A phase of a year."""
    return {"items": [{"price": shop.catalog.plans[plan].price, "quantity": 1}], **fields} | {
        "duration": {"interval": "year", "interval_count": 1}
    }


class Shop(World):
    """A world in which buyers have a subscription and change it."""

    def subscriber(self, user: str = "user_1", plan: str = "standard") -> str:
        """A user who bought a plan an hour ago; the id of the subscription."""
        view = self.served(plan, user=user)
        paid = self.sandbox.pay(str(view.session_id))
        self.clock.advance(hours=1)
        return str(paid["subscription"])

    def another(self, subscription: str) -> str:
        """A second subscription of the same customer, made elsewhere; its id."""
        made = {"customer": self.at_stripe(subscription)["customer"], "metadata": {"type": self.catalog.product}}
        made |= {"items": [{"price": self.catalog.plans["standard"].price}]}
        self.sandbox.give_card(made["customer"])
        another = str(self.sandbox.request("POST", "/v1/subscriptions", made).body["id"])
        self.clock.advance(minutes=1)
        return another

    def done(self, kind: Kind, user: str = "user_1", **request: Any) -> OperationView:
        """Record and work it: what became of it."""
        recorded = self.change(kind, user, **request)
        self.work()
        return self.look(recorded.operation_id, user)

    def work(self) -> None:
        """Work what waits; what was put off stays put off, since time stands still."""
        for _ in range(20):
            if self.queue.sent:
                job = self.queue.sent.pop(0)
                if isinstance(job, WorkOperations):
                    self.work_operations(job.row_id)
                elif isinstance(job, WorkLane):
                    self.work_lane(job.row_id)
        self.queue.sent.clear()

    def look(self, operation_id: str, user: str = "user_1") -> OperationView:
        """The operation as its buyer sees it."""
        return read_operation(operation_id, user_id=user, database=self.database, clock=self.clock)

    def lane_of(self, user: str) -> int:
        """The lane of a user."""
        with self.database.read() as connection:
            theirs = sa.select(operations.c.lane_id).where(operations.c.user_id == user)
            return int(connection.execute(theirs).scalars().first() or 0)

    def seen(self, user: str = "user_1") -> dict[str, Any]:
        """What the user reads about their subscription."""
        read = read_subscription(user, database=self.database, catalog=self.catalog, clock=self.clock)
        return read["subscription"] or {}

    def at_stripe(self, subscription_id: str) -> dict[str, Any]:
        """The subscription as Stripe has it."""
        return self.sandbox.request("GET", f"/v1/subscriptions/{subscription_id}").body

    def is_ending(self, subscription_id: str) -> bool:
        """Whether Stripe ends it with the period of its first item."""
        return is_ending(self.at_stripe(subscription_id))

    def writes(self) -> list[str]:
        """What was changed at Stripe beyond checkouts, in order."""
        made = [one["path"] for one in self.requests("POST") if one["status"] == 200 and not one["replayed"]]
        words = ("schedules", "/v1/subscriptions/", "portal")
        return [path.removeprefix("/v1/") for path in made if any(word in path for word in words)]

    def sweep(self, **later: float) -> None:
        """Time passes, messages were lost, the sweep wakes what waits."""
        self.clock.advance(**later)
        self.queue.sent.clear()
        sweep(database=self.database, queue=self.queue, clock=self.clock)
        self.work()

    def renew(self, subscription_id: str) -> None:
        """Go to just after the end of the current period, and tell the ledger."""
        item = self.at_stripe(subscription_id)["items"]["data"][0]
        self.clock.advance(seconds=item["current_period_end"] - self.clock.now().timestamp() + 60)
