"""A shop whose catalog decides about access: what its users read, and periods that go by."""

from billing.catalog import AccessRules
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.support.reconcile_world import Shop as Delivered


class Shop(Delivered):
    """A shop whose catalog has rules of its own."""

    def rule(self, **rules: object) -> None:
        """From now on."""
        self.catalog = self.catalog.model_copy(update={"access": AccessRules(**rules)})

    def reason(self, user: str = "user_1") -> tuple[bool, str]:
        """Whether, and why."""
        access = self.read(user)["access"]
        return access["granted"], access["reason"]

    def sync(self, customer: str) -> None:
        """Without any event."""
        rest = {"database": self.database, "stripe": self.stripe, "clock": self.clock, "catalog": self.catalog}
        sync_customer(customer, SyncContext(queue=self.queue, **rest))

    def renew(self) -> None:
        """Go on to the next period, which is paid."""
        item = self.objects("subscription")[0]["items"]["data"][0]
        self.clock.advance(seconds=item["current_period_end"] - self.clock.now().timestamp() + 60)
        self.sandbox.tick()
