"""Every call of the gateway as a request to Stripe.

A new call needs a permission of restricted keys: add it to SECURITY.md and `test_restricted_keys.py`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.errors import StripeKeyTaken, StripeRefused, StripeSavedFailure, StripeUnclear, StripeUnserved
from billing.stripe_gateway.port import Json, Page
from billing.stripe_gateway.requests import StripeRequests


class GatewayClient(StripeRequests):
    """The calls of the port, and those of operators' commands."""

    def account(self) -> Json:
        return self._get("/v1/account")

    def list_sessions(self, customer_id: str, *, created_since: datetime) -> list[Json]:
        since = int(created_since.timestamp())
        return self._all("/v1/checkout/sessions", customer=customer_id, created={"gte": since})

    def list_open_sessions(self, *, created_since: datetime) -> list[Json]:
        since = int(created_since.timestamp())
        return self._all("/v1/checkout/sessions", status="open", created={"gte": since})

    def get_session(self, session_id: str) -> Json:
        return self._get("/v1/checkout/sessions/{id}", id_=session_id)

    def create_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        try:
            made = self._post("/v1/checkout/sessions", parameters, idempotency_key=idempotency_key)
        except StripeKeyTaken as taken:  # the other request may still be under way
            raise StripeSavedFailure(taken.sentence, replayed=False) from taken
        except StripeRefused as refused:
            if refused.param == "expires_at":
                raise StripeSavedFailure(refused.sentence, replayed=False) from refused
            raise
        return _id_of(made)

    def expire_session(self, session_id: str) -> None:
        self._post("/v1/checkout/sessions/{id}/expire", {}, id_=session_id)

    def list_subscriptions(self, customer_id: str) -> list[Json]:
        listed = self._all("/v1/subscriptions", customer=customer_id, status="all", expand=["data.latest_invoice"])
        return [self._with_all_items(each) for each in listed]

    def page_subscriptions(self, *, after: str | None) -> Page:
        page = self._page("/v1/subscriptions", after, status="all")
        return Page([self._with_all_items(each) for each in page.items], page.has_more)

    def get_subscription(self, subscription_id: str) -> Json:
        return self._with_all_items(self._get("/v1/subscriptions/{id}", id_=subscription_id))

    def _with_all_items(self, subscription: Json) -> Json:
        """Stripe shows ten items with a subscription, which may have twenty; the plan's may be another one."""
        items = subscription.get("items") or {}
        if not items.get("has_more"):
            return subscription
        try:
            every = self._all("/v1/subscription_items", subscription=subscription["id"])
        except StripeRefused as refused:
            if not refused.is_missing:
                raise
            if subscription.get("ended_at"):
                return subscription  # it bills no more, so nobody has to wait for its other items
            # Not "no such object": the subscription came a moment ago, and so is its customer there.
            raise StripeUnclear("Stripe does not give the items of a subscription that it has.") from refused
        return {**subscription, "items": {**items, "data": every, "has_more": False}}

    def get_schedule(self, schedule_id: str) -> Json:
        # With the prices: a plan may be told by its product alone.
        return self._get("/v1/subscription_schedules/{id}", id_=schedule_id, expand=["phases.items.price"])

    def list_coming_schedules(self, customer_id: str) -> list[Json]:
        prices = ["data.phases.items.price"]
        try:
            return self._all("/v1/subscription_schedules", customer=customer_id, scheduled=True, expand=prices)
        except StripeUnserved:
            return []  # a stand-in for Stripe may not know the address

    def get_test_clock(self, clock_id: str) -> Json:
        return self._get("/v1/test_helpers/test_clocks/{id}", id_=clock_id)

    def get_refund(self, refund_id: str) -> Json:
        return self._get("/v1/refunds/{id}", id_=refund_id)

    def list_refunds(self, charge_id: str) -> list[Json]:
        return self._all("/v1/refunds", charge=charge_id)

    def list_balance_transactions(self, customer_id: str) -> list[Json]:
        return self._all("/v1/customers/{id}/balance_transactions", id_=customer_id)

    def create_balance_transaction(
        self, customer_id: str, parameters: Mapping[str, Any], *, idempotency_key: str
    ) -> Json:
        route = "/v1/customers/{id}/balance_transactions"
        return self._post(route, parameters, id_=customer_id, idempotency_key=idempotency_key)

    def get_price(self, price_id: str) -> Json:
        # With every currency that it is sold in: Stripe leaves out all but the first.
        return self._get("/v1/prices/{id}", id_=price_id, expand=["currency_options"])

    def create_customer(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        return _id_of(self._post("/v1/customers", parameters, idempotency_key=idempotency_key))

    def list_customers(self, *, created_since: datetime) -> list[Json]:
        return self._all("/v1/customers", created={"gte": int(created_since.timestamp())})

    def get_customer(self, customer_id: str) -> Json:
        return self._get("/v1/customers/{id}", id_=customer_id)

    def delete_customer(self, customer_id: str) -> None:
        self._delete("/v1/customers/{id}", id_=customer_id)

    def get_charge(self, charge_id: str) -> Json:
        return self._get("/v1/charges/{id}", id_=charge_id)

    def get_invoice(self, invoice_id: str) -> Json:
        return self._get("/v1/invoices/{id}", id_=invoice_id)

    def get_dispute(self, dispute_id: str) -> Json:
        return self._get("/v1/disputes/{id}", id_=dispute_id)

    def get_thin_event(self, event_id: str) -> Json:
        return self._get("/v2/core/events/{id}", id_=event_id)

    def page_events(self, *, created_since: datetime, after: str | None) -> Page:
        return self._page("/v1/events", after, created={"gte": int(created_since.timestamp())})

    def cancel_subscription(self, subscription_id: str, *, comment: str) -> None:
        # No idempotency key: Stripe takes them with POST only, and a second cancellation is refused.
        self._delete("/v1/subscriptions/{id}", id_=subscription_id, cancellation_details={"comment": comment})

    def update_subscription(self, subscription_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        self._post("/v1/subscriptions/{id}", parameters, id_=subscription_id, idempotency_key=idempotency_key)

    def create_schedule(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        self._post("/v1/subscription_schedules", parameters, idempotency_key=idempotency_key)

    def update_schedule(self, schedule_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        route = "/v1/subscription_schedules/{id}"
        self._post(route, parameters, id_=schedule_id, idempotency_key=idempotency_key)

    def release_schedule(self, schedule_id: str, *, idempotency_key: str) -> None:
        route = "/v1/subscription_schedules/{id}/release"
        self._post(route, {}, id_=schedule_id, idempotency_key=idempotency_key)

    def create_portal_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        made = self._post("/v1/billing_portal/sessions", parameters, idempotency_key=idempotency_key)
        if not isinstance(made.get("url"), str):
            raise StripeUnclear("Stripe's answer to a portal session names no address.")
        return str(made["url"])

    def list_invoices(self, subscription_id: str) -> list[Json]:
        return self._all("/v1/invoices", subscription=subscription_id)

    def list_disputes(self, charge_id: str) -> list[Json]:
        return self._all("/v1/disputes", charge=charge_id)

    def list_invoice_payments(self, invoice_id: str) -> list[Json]:
        return self._all("/v1/invoice_payments", invoice=invoice_id)

    def get_payment_intent(self, payment_intent_id: str) -> Json:
        return self._get("/v1/payment_intents/{id}", id_=payment_intent_id)

    def create_refund(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        return self._post("/v1/refunds", parameters, idempotency_key=idempotency_key)

    def get_coupon(self, coupon_id: str) -> Json:
        return self._get("/v1/coupons/{id}", id_=coupon_id)

    def page_customers(self, *, after: str | None) -> Page:
        """A page of the account's customers, newest first (for `onelane doctor`)."""
        return self._page("/v1/customers", after)

    def default_portal_configuration(self) -> Json | None:
        """The portal's configuration that the Dashboard saves; None before it did so (for `onelane doctor`)."""
        products = ["data.features.subscription_update.products"]
        found = self._all("/v1/billing_portal/configurations", is_default=True, expand=products)
        return next(iter(found), None)

    def get_portal_configuration(self, configuration_id: str) -> Json:
        """One configuration of the portal, with the products that it lets buyers switch to (for `onelane doctor`)."""
        products = ["features.subscription_update.products"]
        return self._get("/v1/billing_portal/configurations/{id}", id_=configuration_id, expand=products)

    def list_webhook_endpoints(self) -> list[Json]:
        """Every webhook endpoint (for `onelane webhooks setup`)."""
        return self._all("/v1/webhook_endpoints")

    def create_webhook_endpoint(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        """Create one; the only answer with its secret."""
        return self._post("/v1/webhook_endpoints", parameters, idempotency_key=idempotency_key)

    def update_webhook_endpoint(self, endpoint_id: str, parameters: Mapping[str, Any]) -> Json:
        return self._post("/v1/webhook_endpoints/{id}", parameters, id_=endpoint_id)


def _id_of(made: Json) -> str:
    if not isinstance(made.get("id"), str):
        raise StripeUnclear("Stripe's answer to a creation names no id.")
    return str(made["id"])
