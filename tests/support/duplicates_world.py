"""A world in which customers come to have more than one subscription, and what those took is given back."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import sqlalchemy as sa

from billing.coordination.jobs import RemedyDuplicates, WorkEvents
from billing.coordination.queue import InlineQueue
from billing.duplicates.context import Context as RemedyContext
from billing.duplicates.remedy import remedy_duplicates
from billing.maintenance.sweep import sweep
from billing.models import customers, events, remedies
from billing.operators.listing import Wanted
from billing.operators.lookup import list_incidents
from billing.subscriptions.context import Context as SyncContext
from billing.subscriptions.sync import sync_customer
from tests.races.unlocked import NoLocks
from tests.support.reconcile_world import Shop as ReconcileShop

TAG = {"type": "kiloclaw"}


class Shop(ReconcileShop):
    """A world in which customers come to have more than one subscription."""

    def customer(self, user: str = "user_1") -> str:
        """The user's Stripe customer, after they bought the standard plan; its subscription is two hours old."""
        view = self.served("standard", user=user)
        self.sandbox.pay(str(view.session_id))
        self.clock.advance(hours=2)
        with self.database.read() as connection:
            own = sa.select(customers.c.customer_id).where(customers.c.user_id == user)
            return str(connection.scalar(own))

    def bare_customer(self) -> str:
        """A Stripe customer without anything."""
        made = self.sandbox.request("POST", "/v1/customers", {"email": "bare@example.com"})
        return str(made.body["id"])

    def pay_open_invoices(self, subscription_id: str) -> None:
        """Each one, by hand."""
        for invoice in self.objects("invoice"):
            if invoice["status"] == "open" and subscription_id in str(invoice["parent"]):
                self.sandbox.request("POST", f"/v1/invoices/{invoice['id']}/pay", {"paid_out_of_band": True})

    def another(
        self,
        customer: str,
        *,
        metadata: Any = TAG,
        card: str | None = "pm_card_visa",
        default: bool = True,
        **instead: Any,
    ) -> str:
        """A second subscription to the same plan, by hand; `default`: its card is the customer's from now on."""
        items = [{"price": self.catalog.plans["standard"].price, "quantity": 1}]
        asked = {"customer": customer, "items": items, "metadata": metadata, **instead}
        if card:
            given = self.sandbox.give_card(customer, card)
            if not default:
                asked["default_payment_method"] = given["id"]
                none = {"invoice_settings": {"default_payment_method": ""}}
                assert self.sandbox.request("POST", f"/v1/customers/{customer}", none).status == 200
        answer = self.sandbox.request("POST", "/v1/subscriptions", asked)
        assert answer.status == 200, answer.body
        self.clock.advance(seconds=1)
        return str(answer.body["id"])

    def doubled(self, *, card: str = "pm_card_visa", credit: int = 0, **instead: Any) -> tuple[str, str, int]:
        """A customer with a second one, paid by this card and so much credit: customer, second one, incident."""
        customer = self.customer()
        if credit:
            self.give_credit(customer, credit)
        second = self.another(customer, card=card, **instead)
        return customer, second, self.found(customer)

    def pay_no_more(self, subscription_id: str, state: str) -> None:
        """The subscription comes to such a state: a status, or a paused collection."""
        if state == "collection paused":
            change = {"pause_collection": {"behavior": "void"}}
            assert self.sandbox.request("POST", f"/v1/subscriptions/{subscription_id}", change).status == 200
        else:
            self.sandbox.force_status(subscription_id, state)

    def found(self, customer: str) -> int:
        """Sync, as an event would; the id of the incident."""
        queue = InlineQueue()
        collaborators: Any = {"stripe": self.stripe, "clock": self.clock, "catalog": self.catalog}
        sync_customer(customer, SyncContext(database=self.database, queue=queue, **collaborators))
        [incident_id] = [job.row_id for job in queue.sent if isinstance(job, RemedyDuplicates)]
        return incident_id

    def remedy(self, incident_id: int, **instead: Any) -> bool:
        """Work the job once; False where a failure was noted."""
        collaborators: dict[str, Any] = {
            "cancels": True,
            "database": self.database,
            "stripe": self.stripe,
            "locks": self.locks,
            "queue": self.queue,
            "clock": self.clock,
            "catalog": self.catalog,
        }
        return remedy_duplicates(incident_id, RemedyContext(**(collaborators | instead)))

    def remedy_at_once(self, incident_id: int) -> None:
        """Five workers work the job at the same moment, without any lock."""
        start = threading.Barrier(5)

        def worker(_number: int) -> None:
            start.wait()
            self.remedy(incident_id, locks=NoLocks())

        with ThreadPoolExecutor(5) as threads:
            list(threads.map(worker, range(5)))

    def live(self, customer: str) -> list[str]:
        """What the customer pays for, newest first."""
        theirs = [one for one in self.objects("subscription") if one["customer"] == customer]
        return [one["id"] for one in theirs if one["status"] not in ("canceled", "incomplete_expired")]

    def refunded(self, subscription_id: str) -> int:
        """What was given back of the subscription's latest invoice."""
        [subscription] = [one for one in self.objects("subscription") if one["id"] == subscription_id]
        payments = [one for one in self.objects("invoice_payment") if one["invoice"] == subscription["latest_invoice"]]
        intents = {one["payment"]["payment_intent"] for one in payments}
        return sum(one["amount"] for one in self.objects("refund") if one["payment_intent"] in intents)

    def states(self) -> list[str]:
        """Of every remedy, in order."""
        with self.database.read() as connection:
            return list(connection.scalars(sa.select(remedies.c.state).order_by(remedies.c.id)))

    def open_incidents(self) -> dict[str, str | None]:
        """Kind and reason."""
        rows = list_incidents(Wanted(100), database=self.database)
        return {row["kind"]: row["reason"] for row in rows}

    # --- money

    def give_credit(self, customer: str, amount: int) -> None:
        """Credit on the customer's balance, as support gives it."""
        change = {"amount": -amount, "currency": "usd"}
        answer = self.sandbox.request("POST", f"/v1/customers/{customer}/balance_transactions", change)
        assert answer.status == 200, answer.body

    def credit(self, customer: str) -> int:
        """What is on the customer's balance."""
        return -int(self.sandbox.request("GET", f"/v1/customers/{customer}").body["balance"])

    def invoice_of(self, subscription_id: str) -> dict[str, Any]:
        """Its newest invoice."""
        return next(one for one in self.objects("invoice") if subscription_id in str(one["parent"]))

    def charge_of(self, subscription_id: str) -> dict[str, Any]:
        """What paid its newest invoice."""
        invoice = self.invoice_of(subscription_id)["id"]
        intent = next(
            one["payment"]["payment_intent"] for one in self.objects("invoice_payment") if one["invoice"] == invoice
        )
        return next(one for one in self.objects("charge") if one["payment_intent"] == intent)

    def told(self) -> None:
        """What happened at Stripe arrives and is worked, and the jobs that come of it."""
        known = {row.event_id for row in self.rows(events)}
        self.deliver(event for event in self.made() if event["id"] not in known)
        self.clock.advance(seconds=2)
        self._work_told()

    def _work_told(self) -> None:
        self.queue.sent.clear()
        self.process(WorkEvents())
        for job in [job for job in self.queue.sent if isinstance(job, RemedyDuplicates)]:
            self.remedy(job.row_id, cancels=False)

    def tell_of(self, event: dict[str, Any]) -> None:
        """The one event arrives and is worked, and the jobs that come of it."""
        self.deliver([event])
        self.clock.advance(seconds=2)
        self._work_told()

    def remedy_until_canceled(self, incident_id: int) -> None:
        """Stripe fails before anything is given back."""
        self.sandbox.faults.add("status", status=503, path="/v1/invoice_payments", times=None)
        self.remedy(incident_id)
        self.sandbox.faults.clear()
        self.clock.advance(minutes=61)
        assert self.states() == ["canceled"]

    def reason(self) -> str:
        """Why the incident about duplicates is open; empty when it is not."""
        return self.open_incidents().get("duplicate_subscription", "") or ""

    def hours_pass(self, hours: int = 2) -> None:
        """And the sweep wakes whom it finds."""
        for _ in range(hours):
            self.clock.advance(minutes=61)
            self.sandbox.tick()
            self.queue.sent.clear()
            sweep(database=self.database, queue=self.queue, clock=self.clock)
            for job in [job for job in self.queue.sent if isinstance(job, RemedyDuplicates)]:
                self.remedy(job.row_id, cancels=False)
