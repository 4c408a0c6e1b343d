"""A world for erasing: buyers say something personal wherever they can."""

from collections.abc import Callable
from typing import Any

from billing.customers import store as customers_store
from billing.models import customers, events, metadata
from billing.operations.calls import Kind
from billing.operators.erase import count_holdings, erase_user
from billing.operators.erasure_store import Holdings
from tests.support.checkout_world import ORIGIN
from tests.support.reconcile_world import Shop as Delivered

CANARY = "canary"


class Shop(Delivered):
    """A shop whose buyers say something personal wherever they can."""

    def arrive(self, user: str = "user_1") -> None:
        """A user comes with an address."""
        with self.database.write() as connection:
            email = f"{CANARY}-{user}@example.com"
            customers_store.open_customer(connection, user_id=user, email=email, now=self.clock.now())

    def ask_personally(self, user: str = "user_1", plan: str = "standard") -> str:
        """A checkout with something personal in every field; its id."""
        said = f"{CANARY}-{user}"
        return self.ask(
            plan,
            user=user,
            key=f"{said}-{plan}",
            success_url=f"{ORIGIN}/ok?{said}",
            cancel_url=f"{ORIGIN}/no?{said}",
            client_reference_id=said,
            metadata={"note": said},
        )

    def change_personally(self, kind: Kind, user: str = "user_1", **request: Any) -> None:
        """An operation with a key that says who asked."""
        self.change(kind, user, key=f"{CANARY}-{user}-{kind}", **request)

    def ended(self, user: str = "user_1") -> str:
        """A user who bought, opened the portal, and whose subscription ended; their customer."""
        self.arrive(user)
        checkout_id = self.ask_personally(user)
        self.work()
        paid = self.sandbox.pay(str(self.view(checkout_id, user=user).session_id))
        self.told()
        self.change_personally(Kind.PORTAL, user, return_url=f"{ORIGIN}/?{CANARY}-{user}")
        self.work()
        self.sandbox.request("DELETE", f"/v1/subscriptions/{paid['subscription']}")
        self.told()
        return str(paid["customer"])

    def subscribe_elsewhere(self, customer: str) -> None:
        """To another product."""
        price = {"currency": "usd", "unit_amount": 500, "recurring": {"interval": "month"}}
        other = self.sandbox.request("POST", "/v1/prices", {**price, "product_data": {"name": "x"}}).body["id"]
        method = self.sandbox.request("GET", "/v1/payment_methods", {"customer": customer}).body["data"][0]["id"]
        made = {"customer": customer, "items": [{"price": other}], "default_payment_method": method}
        assert self.sandbox.request("POST", "/v1/subscriptions", made).status == 200

    def told(self) -> None:
        """What Stripe says arrives, a little of it a second time, and is worked."""
        self.queue.sent.clear()
        made = self.made()
        known = len(self.rows(events))
        self.deliver(made[max(0, known - 2) :])
        self.work_events()

    def erase(self, user: str = "user_1", **instead: Any) -> Holdings:
        """As the command does it."""
        usual = {"reason": "asked for by letter", "delete_at_stripe": False}
        handed = {name: instead.pop(name) for name in instead.keys() & self.collaborators().keys()}
        return erase_user(user, self.context(**handed), **usual | instead)

    def holdings(self, user: str = "user_1", **instead: Any) -> Any:
        """What erasing would remove."""
        return count_holdings(user, self.context(), **{"delete_at_stripe": False, **instead})

    def dump(self) -> str:
        """The whole ledger as text."""
        return "\n".join(str(tuple(row)) for table in metadata.sorted_tables for row in self.rows(table))

    def row(self, user: str = "user_1") -> Any:
        """The user's tombstone."""
        return next(row for row in self.rows(customers) if row.user_id == user)


class Hooked:
    """A Stripe in front of which something happens once, right before a call of that name."""

    def __init__(self, stripe: Any, name: str, hook: Callable[[], object]) -> None:
        self._stripe, self._name, self._hook = stripe, name, hook
        self._due = True

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._stripe, name)
        if name != self._name or not self._due:
            return real

        def call(*arguments: Any, **options: Any) -> Any:
            if self._due:
                self._due = False
                self._hook()
            return real(*arguments, **options)

        return call
