"""What flows may ask of Stripe: a protocol, so that tests can hand in a Stripe of their own.

Answers are plain dicts, as Stripe's API documents them.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NamedTuple, Protocol

Json = dict[str, Any]


class Page(NamedTuple):
    """One page of a list, and whether more follow; `after` of the next one is the id of the last."""

    items: list[Json]
    has_more: bool


class StripeGateway(Protocol):
    """What flows may ask of Stripe. Ids are Stripe's; every call can raise the errors of `billing.errors`."""

    def now(self) -> datetime:
        """Stripe's own time, by the `Date` of its last answer."""

    def low_priority(self) -> "StripeGateway":
        """The same Stripe for work that no buyer waits for: calls of buyers go first."""

    def in_parallel(self, *calls: Callable[[], Any]) -> list[Any]:
        """Run independent reads side by side; results in order. The first error is raised."""

    def account(self) -> Json:
        """The account that the key belongs to, with `livemode`."""

    def list_sessions(self, customer_id: str, *, created_since: datetime) -> list[Json]:
        """Every checkout session of the customer since then, any status, all pages."""

    def list_open_sessions(self, *, created_since: datetime) -> list[Json]:
        """Every open checkout session of the account since then, all pages."""

    def get_session(self, session_id: str) -> Json:
        """One checkout session."""

    def create_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        """Create a checkout session; gives its id only, since the body may be a replay of an old answer."""

    def expire_session(self, session_id: str) -> None:
        """Expire an open checkout session. StripeRefused when it is not open."""

    def list_subscriptions(self, customer_id: str) -> list[Json]:
        """Every subscription of the customer, every status, all pages; each with its latest invoice in it."""

    def page_subscriptions(self, *, after: str | None) -> Page:
        """A page of the account's subscriptions, every status, newest first."""

    def get_subscription(self, subscription_id: str) -> Json:
        """One subscription."""

    def get_schedule(self, schedule_id: str) -> Json:
        """One subscription schedule."""

    def list_coming_schedules(self, customer_id: str) -> list[Json]:
        """The customer's schedules that have not begun: there is no subscription yet."""

    def get_test_clock(self, clock_id: str) -> Json:
        """One test clock: a time of its own for customers in test mode."""

    def get_price(self, price_id: str) -> Json:
        """One price."""

    def create_customer(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        """Create a customer; its id."""

    def list_customers(self, *, created_since: datetime) -> list[Json]:
        """Every customer created since then, all pages."""

    def get_customer(self, customer_id: str) -> Json:
        """One customer (`deleted: true` when it is gone)."""

    def delete_customer(self, customer_id: str) -> None:
        """Delete a customer for good; that cancels every subscription it has. StripeMissing when there is none."""

    def get_charge(self, charge_id: str) -> Json:
        """One charge."""

    def get_invoice(self, invoice_id: str) -> Json:
        """One invoice."""

    def get_dispute(self, dispute_id: str) -> Json:
        """One dispute."""

    def get_thin_event(self, event_id: str) -> Json:
        """What a thin notification stands for, with its `data`."""

    def page_events(self, *, created_since: datetime, after: str | None) -> Page:
        """A page of the account's events since then, newest first. StripeRefused when `after` is older than 30 days."""

    def cancel_subscription(self, subscription_id: str, *, comment: str) -> None:
        """Cancel a subscription now, without prorations. StripeRefused when it is over already."""

    def update_subscription(self, subscription_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        """Change a subscription."""

    def create_schedule(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        """Put a subscription under a schedule. StripeRefused when it has one."""

    def update_schedule(self, schedule_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        """Change a schedule, its phases for example."""

    def release_schedule(self, schedule_id: str, *, idempotency_key: str) -> None:
        """Let a schedule's subscription go on as it is. StripeRefused when the schedule is over."""

    def create_portal_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        """Open the billing portal for a customer; its address, a bearer secret."""

    def list_invoices(self, subscription_id: str) -> list[Json]:
        """Every invoice of a subscription, every status, all pages."""

    def list_disputes(self, charge_id: str) -> list[Json]:
        """Every dispute of a charge, every status, all pages."""

    def list_invoice_payments(self, invoice_id: str) -> list[Json]:
        """Every payment of an invoice, every status, all pages."""

    def get_payment_intent(self, payment_intent_id: str) -> Json:
        """One payment intent."""

    def create_refund(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        """Refund a payment, whatever of it is left when no amount is given."""

    def get_refund(self, refund_id: str) -> Json:
        """One refund."""

    def list_refunds(self, charge_id: str) -> list[Json]:
        """Every refund of a charge, every status, all pages."""

    def list_balance_transactions(self, customer_id: str) -> list[Json]:
        """Every change of a customer's credit balance, all pages."""

    def create_balance_transaction(
        self, customer_id: str, parameters: Mapping[str, Any], *, idempotency_key: str
    ) -> Json:
        """Change a customer's credit balance: a negative amount is credit."""
