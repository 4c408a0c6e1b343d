"""Fakes that keep state and restate no rule of ours.

`FakeStripe` is for tests of what we do with Stripe's answers: a test writes the state, and may step in between an
answer and its arrival. What Stripe itself would do is the sandbox's part.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from billing.errors import StripeMissing, StripeRefused

Json = dict[str, Any]
REFUSED = StripeRefused("no", status=400, stripe_code="parameter_invalid", param="customer")


class FakeStripe:
    """The reading half of Stripe, in memory. Whatever is in `objects` exists; the rest is missing."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self.calls: Counter[str] = Counter()
        self.account_id = "acct_1"
        # Called with the call's name once its answer is made up, before it arrives: the place for races and failures.
        self.before_arrival: Callable[[str], None] = lambda name: None
        self.unlisted: set[str] = set()  # ids that lists do not show yet
        self._guard = threading.Lock()

    def put(self, *objects: Mapping[str, Any]) -> None:
        """Let these exist, or be like this from now on."""
        with self._guard:
            for one in objects:
                self.objects[one["id"]] = dict(one)

    def remove(self, id: str) -> None:
        """Let this exist no longer."""
        with self._guard:
            del self.objects[id]

    # --- the gateway

    def now(self) -> datetime:
        return datetime.now(UTC)

    def low_priority(self) -> "FakeStripe":
        return self

    def in_parallel(self, *calls: Callable[[], Any]) -> list[Any]:
        return [call() for call in calls]

    def account(self) -> Json:
        return self._answer("account", {"id": self.account_id, "object": "account"})

    def list_subscriptions(self, customer_id: str) -> list[Json]:
        if customer_id not in self.objects:
            self._answer("list_subscriptions", None)
        return self._list("list_subscriptions", object="subscription", customer=customer_id)

    def get_subscription(self, subscription_id: str) -> Json:
        return self._get("get_subscription", subscription_id)

    def get_session(self, session_id: str) -> Json:
        return self._get("get_session", session_id)

    def get_schedule(self, schedule_id: str) -> Json:
        return self._get("get_schedule", schedule_id)

    def get_test_clock(self, clock_id: str) -> Json:
        return self._get("get_test_clock", clock_id)

    def list_coming_schedules(self, customer_id: str) -> list[Json]:
        return []

    def get_customer(self, customer_id: str) -> Json:
        return self._get("get_customer", customer_id)

    def get_charge(self, charge_id: str) -> Json:
        return self._get("get_charge", charge_id)

    def get_invoice(self, invoice_id: str) -> Json:
        return self._get("get_invoice", invoice_id)

    def list_invoices(self, subscription_id: str) -> list[Json]:
        return self._list("list_invoices", subscription=subscription_id)

    def list_invoice_payments(self, invoice_id: str) -> list[Json]:
        return self._list("list_invoice_payments", object="invoice_payment", invoice=invoice_id)

    def list_refunds(self, charge_id: str) -> list[Json]:
        return self._list("list_refunds", object="refund", charge=charge_id)

    def get_refund(self, refund_id: str) -> Json:
        return self._get("get_refund", refund_id)

    def list_disputes(self, charge_id: str) -> list[Json]:
        return self._list("list_disputes", object="dispute", charge=charge_id)

    def list_balance_transactions(self, customer_id: str) -> list[Json]:
        kind = "customer_balance_transaction"
        return self._list("list_balance_transactions", object=kind, customer=customer_id)

    def get_dispute(self, dispute_id: str) -> Json:
        return self._get("get_dispute", dispute_id)

    def get_payment_intent(self, payment_intent_id: str) -> Json:
        return self._get("get_payment_intent", payment_intent_id)

    def get_thin_event(self, event_id: str) -> Json:
        return self._get("get_thin_event", event_id)

    def _get(self, name: str, id: str) -> Json:
        return self._answer(name, self.objects.get(id))

    def _list(self, name: str, **fields: str) -> Any:
        with self._guard:
            listed = [one for id_, one in self.objects.items() if id_ not in self.unlisted]
        return self._answer(name, [one for one in listed if fields.items() <= one.items()])

    def _answer(self, name: str, answer: Any) -> Any:
        with self._guard:
            self.calls[name] += 1
        self.before_arrival(name)
        if answer is None:
            raise StripeMissing("No such thing.", status=404, stripe_code="resource_missing", param="id")
        return answer


def failing(error: Exception | None, *, times: int = 10**6) -> Callable[[str], None]:
    """Let calls to Stripe end like this."""
    left = iter(range(times))

    def fail(_name: str) -> None:
        if error and next(left, None) is not None:
            raise error

    return fail
