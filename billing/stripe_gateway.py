"""The gateway: the only place that talks to Stripe, by Stripe's own SDK over any base address.

Answers leave as plain dicts (an SDK object costs 25 times a plain parse), errors as our own, translated
once in `_translate`. Reads are tried twice; writes once, because the protocols decide what to repeat.
Whatever is on the other side, an answer is bounded in size and time, and no redirect is followed.
"""

import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, Protocol

import stripe
import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.errors import (
    OnelaneError,
    StripeMisconfigured,
    StripeMissing,
    StripeRefused,
    StripeSavedFailure,
    StripeUnclear,
)
from billing.pace import Pace
from billing.stripe_http import BoundedClient, PacedClient

Json = dict[str, Any]

# What the code was written against; the account's default version must not change under us.
API_VERSION = "2026-10-28.endive"
PAGE = 100  # Stripe's largest
log = structlog.get_logger(__name__)
REQUESTS = Counter("onelane_stripe_requests_total", "Requests to Stripe.", ["route", "status"])


class Page(NamedTuple):
    """One page of a list, and whether more follow; `after` of the next one is the id of the last."""

    items: list[Json]
    has_more: bool


class StripeGateway(Protocol):
    """What flows may ask of Stripe. Ids are Stripe's; every call can raise the errors of `billing.errors`."""

    def now(self) -> datetime:
        """Stripe's own time, by the `Date` of its last answer."""

    def behind_buyers(self) -> "StripeGateway":
        """The same Stripe, for work that no buyer waits for: it stands behind the calls of those that do."""

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
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
        """Create a checkout session; only its id is told: the body may be a replay of an old answer."""

    def expire_session(self, session_id: str) -> None:
        """Expire an open checkout session. StripeRefused when it is not open."""

    def list_subscriptions(self, customer_id: str) -> list[Json]:
        """Every subscription of the customer, every status, all pages."""

    def page_subscriptions(self, *, after: str | None) -> Page:
        """A page of the account's subscriptions, every status, newest first."""

    def get_subscription(self, subscription_id: str) -> Json:
        """One subscription."""

    def get_schedule(self, schedule_id: str) -> Json:
        """One subscription schedule."""

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

    def list_paid_invoices(self, subscription_id: str) -> list[Json]:
        """Every paid invoice of a subscription, all pages."""

    def list_disputes(self, charge_id: str) -> list[Json]:
        """Every dispute of a charge, every status, all pages."""

    def list_invoice_payments(self, invoice_id: str) -> list[Json]:
        """Every payment of an invoice, every status, all pages."""

    def get_payment_intent(self, payment_intent_id: str) -> Json:
        """One payment intent."""

    def create_refund(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        """Refund a payment, whatever of it is left when no amount is given."""


class LiveStripe:
    """Stripe (or anything that speaks its API) by HTTP."""

    def __init__(
        self,
        api_key: str,
        *,
        api_base: str | None,
        timeout_seconds: float,
        clock: Clock,
        max_per_second: float = 100.0,
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        http = http_client or BoundedClient(timeout_seconds, address=api_base or stripe.DEFAULT_API_BASE)
        pace = Pace(max_per_second)
        self._client, self._background = (
            stripe.StripeClient(
                api_key,
                stripe_version=API_VERSION,
                base_addresses={"api": api_base} if api_base else {},
                http_client=PacedClient(http, pace, buyer=buyer),
            )
            for buyer in (True, False)
        )
        self._clock = clock
        self._ahead = 0.0  # seconds that Stripe's clock is ahead of ours
        # 40: each of 16 lanes reads two or three things side by side, one of them in its own thread.
        self._readers = ThreadPoolExecutor(40, thread_name_prefix="stripe")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now().timestamp() + self._ahead, UTC)

    def behind_buyers(self) -> "LiveStripe":
        behind = copy.copy(self)  # the same connections, threads and budget
        behind._client = self._background
        return behind

    def together(self, *calls: Callable[[], Any]) -> list[Any]:
        others = [self._readers.submit(call) for call in calls[1:]]
        first = [call() for call in calls[:1]]
        return first + [other.result() for other in others]

    def account(self) -> Json:
        return self._get("/v1/account")

    def list_sessions(self, customer_id: str, *, created_since: datetime) -> list[Json]:
        since = int(created_since.timestamp())
        return self._all("/v1/checkout/sessions", customer=customer_id, created={"gte": since})

    def list_open_sessions(self, *, created_since: datetime) -> list[Json]:
        since = int(created_since.timestamp())
        return self._all("/v1/checkout/sessions", status="open", created={"gte": since})

    def get_session(self, session_id: str) -> Json:
        return self._get(f"/v1/checkout/sessions/{session_id}", route="/v1/checkout/sessions/{id}")

    def create_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        try:
            made = self._post("/v1/checkout/sessions", parameters, idempotency_key=idempotency_key)
        except StripeRefused as refused:
            if refused.param == "expires_at" or refused.stripe_code == "idempotency_error":
                raise StripeSavedFailure(refused.sentence, replayed=False) from refused
            raise
        return _id_of(made)

    def expire_session(self, session_id: str) -> None:
        self._post(f"/v1/checkout/sessions/{session_id}/expire", {}, route="/v1/checkout/sessions/{id}/expire")

    def list_subscriptions(self, customer_id: str) -> list[Json]:
        return self._all("/v1/subscriptions", customer=customer_id, status="all")

    def page_subscriptions(self, *, after: str | None) -> Page:
        return self._page("/v1/subscriptions", after, status="all")

    def get_subscription(self, subscription_id: str) -> Json:
        return self._get(f"/v1/subscriptions/{subscription_id}", route="/v1/subscriptions/{id}")

    def get_schedule(self, schedule_id: str) -> Json:
        return self._get(f"/v1/subscription_schedules/{schedule_id}", route="/v1/subscription_schedules/{id}")

    def create_customer(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        return _id_of(self._post("/v1/customers", parameters, idempotency_key=idempotency_key))

    def list_customers(self, *, created_since: datetime) -> list[Json]:
        return self._all("/v1/customers", created={"gte": int(created_since.timestamp())})

    def get_customer(self, customer_id: str) -> Json:
        return self._get(f"/v1/customers/{customer_id}", route="/v1/customers/{id}")

    def delete_customer(self, customer_id: str) -> None:
        path, route = f"/v1/customers/{customer_id}", "/v1/customers/{id}"
        self._request("delete", path, route=route, max_network_retries=0)

    def get_charge(self, charge_id: str) -> Json:
        return self._get(f"/v1/charges/{charge_id}", route="/v1/charges/{id}")

    def get_invoice(self, invoice_id: str) -> Json:
        return self._get(f"/v1/invoices/{invoice_id}", route="/v1/invoices/{id}")

    def get_dispute(self, dispute_id: str) -> Json:
        return self._get(f"/v1/disputes/{dispute_id}", route="/v1/disputes/{id}")

    def get_thin_event(self, event_id: str) -> Json:
        return self._get(f"/v2/core/events/{event_id}", route="/v2/core/events/{id}")

    def page_events(self, *, created_since: datetime, after: str | None) -> Page:
        return self._page("/v1/events", after, created={"gte": int(created_since.timestamp())})

    def cancel_subscription(self, subscription_id: str, *, comment: str) -> None:
        # No idempotency key: Stripe takes them with POST only, and a second cancellation is refused.
        details = {"cancellation_details": {"comment": comment}}
        path, route = f"/v1/subscriptions/{subscription_id}", "/v1/subscriptions/{id}"
        self._request("delete", path, route=route, max_network_retries=0, **details)

    def update_subscription(self, subscription_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        path, route = f"/v1/subscriptions/{subscription_id}", "/v1/subscriptions/{id}"
        self._post(path, parameters, route=route, idempotency_key=idempotency_key)

    def create_schedule(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        self._post("/v1/subscription_schedules", parameters, idempotency_key=idempotency_key)

    def update_schedule(self, schedule_id: str, parameters: Mapping[str, Any], *, idempotency_key: str) -> None:
        path, route = f"/v1/subscription_schedules/{schedule_id}", "/v1/subscription_schedules/{id}"
        self._post(path, parameters, route=route, idempotency_key=idempotency_key)

    def release_schedule(self, schedule_id: str, *, idempotency_key: str) -> None:
        path, route = f"/v1/subscription_schedules/{schedule_id}/release", "/v1/subscription_schedules/{id}/release"
        self._post(path, {}, route=route, idempotency_key=idempotency_key)

    def create_portal_session(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> str:
        made = self._post("/v1/billing_portal/sessions", parameters, idempotency_key=idempotency_key)
        if not isinstance(made.get("url"), str):
            raise StripeUnclear("Stripe's answer to a portal session names no address.")
        return str(made["url"])

    def list_paid_invoices(self, subscription_id: str) -> list[Json]:
        return self._all("/v1/invoices", subscription=subscription_id, status="paid")

    def list_disputes(self, charge_id: str) -> list[Json]:
        return self._all("/v1/disputes", charge=charge_id)

    def list_invoice_payments(self, invoice_id: str) -> list[Json]:
        return self._all("/v1/invoice_payments", invoice=invoice_id)

    def get_payment_intent(self, payment_intent_id: str) -> Json:
        return self._get(f"/v1/payment_intents/{payment_intent_id}", route="/v1/payment_intents/{id}")

    def create_refund(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        return self._post("/v1/refunds", parameters, idempotency_key=idempotency_key)

    def get_price(self, price_id: str) -> Json:
        """One price (for `onelane doctor`)."""
        return self._get(f"/v1/prices/{price_id}", route="/v1/prices/{id}")

    def get_coupon(self, coupon_id: str) -> Json:
        """One coupon (for `onelane doctor`)."""
        return self._get(f"/v1/coupons/{coupon_id}", route="/v1/coupons/{id}")

    def list_webhook_endpoints(self) -> list[Json]:
        """Every webhook endpoint (for `onelane webhooks setup`)."""
        return self._all("/v1/webhook_endpoints")

    def create_webhook_endpoint(self, parameters: Mapping[str, Any], *, idempotency_key: str) -> Json:
        """Create one; the only answer with its secret."""
        return self._post("/v1/webhook_endpoints", parameters, idempotency_key=idempotency_key)

    def update_webhook_endpoint(self, endpoint_id: str, parameters: Mapping[str, Any]) -> Json:
        """Change one."""
        return self._post(f"/v1/webhook_endpoints/{endpoint_id}", parameters, route="/v1/webhook_endpoints/{id}")

    def _all(self, path: str, **filters: Any) -> list[Json]:
        found: list[Json] = []
        after: str | None = None
        while True:
            page = self._page(path, after, **filters)
            found += page.items
            if not page.has_more:
                return found
            after = page.items[-1]["id"]

    def _page(self, path: str, after: str | None, **filters: Any) -> Page:
        more = {"starting_after": after} if after else {}
        answer = self._get(path, limit=PAGE, **filters, **more)
        items = answer.get("data")
        if not isinstance(items, list):
            raise StripeUnclear("Stripe answered a list request with something that is no list.")
        if items and items[-1]["id"] == after:
            raise StripeUnclear("Stripe answered a list request with the same page again.")
        return Page(items, bool(answer.get("has_more")) and bool(items))

    def _get(self, path: str, *, route: str | None = None, **query: Any) -> Json:
        return self._request("get", path, route=route or path, max_network_retries=1, **query)

    def _post(
        self,
        path: str,
        parameters: Mapping[str, Any],
        *,
        route: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        options = {"idempotency_key": idempotency_key} if idempotency_key else {}
        return self._request("post", path, route=route or path, max_network_retries=0, **options, **parameters)

    def _request(self, method: str, path: str, *, route: str, **arguments: Any) -> Json:
        label = f"{method.upper()} {route}"
        try:
            answer = self._client.raw_request(method, path, **arguments)
        except stripe.StripeError as error:
            REQUESTS.labels(label, str(error.http_status or "none")).inc()
            self._note_date(error.headers)
            # from None: the SDK's error holds the body, and with it a session's URL or an email.
            raise _translate(error, label) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # What the SDK makes of a proxy's {"error": "Bad Gateway"}, or of a page that is not in UTF-8.
            REQUESTS.labels(label, "none").inc()
            log.warning("stripe.answer_unreadable", route=label, error=type(error).__name__)
            raise StripeUnclear("Stripe's answer could not be read.") from None
        REQUESTS.labels(label, str(answer.code)).inc()
        self._note_date(answer.headers)
        if not isinstance(answer.data, dict):
            raise StripeUnclear("Stripe's answer is no JSON object.", status=answer.code)
        return answer.data

    def _note_date(self, headers: Mapping[str, str] | None) -> None:
        date = (headers or {}).get("Date") or (headers or {}).get("date")
        if date:
            try:
                self._ahead = parsedate_to_datetime(date).timestamp() - self._clock.now().timestamp()
            except ValueError:
                return  # a date that is none tells nothing


def _translate(error: stripe.StripeError, label: str) -> OnelaneError:
    """Say in our words what an SDK error means. Never by its message; Stripe's texts change."""
    status, headers = error.http_status, error.headers or {}
    body = error.json_body if isinstance(error.json_body, Mapping) else {}
    raw = body.get("error")
    details: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    request = f" (request {error.request_id})" if error.request_id else ""
    if status == 403 and details:  # without them it is a proxy that speaks
        return StripeMisconfigured(
            f"Stripe does not let STRIPE_API_KEY do {label}{request}. The operator must give that key the permission;"
            " SECURITY.md lists what it needs."
        )
    if status == 401 and details:
        return StripeMisconfigured(
            f"Stripe does not accept STRIPE_API_KEY{request}. The operator must set a valid one."
        )
    if status is None or status in (409, 429) or not details or status in (502, 503, 504):
        return StripeUnclear(
            f"Stripe gave no clear answer (status {status}){request}.",
            status=status,
            retry_after=_seconds(headers),
        )
    if status >= 500:
        if label.startswith("GET "):
            return StripeUnclear(f"Stripe failed to answer a read (status {status}){request}.", status=status)
        replayed = str(headers.get("Idempotent-Replayed", headers.get("idempotent-replayed", ""))).lower() == "true"
        return StripeSavedFailure(f"Stripe failed with {status}{request}.", replayed=replayed)
    if status < 400:
        return StripeUnclear(f"Stripe's answer could not be read (status {status}){request}.", status=status)
    code = details.get("code")
    if isinstance(error, stripe.IdempotencyError):
        code = "idempotency_error"
    elif code in ("rate_limit", "lock_timeout", "idempotency_key_in_use"):
        return StripeUnclear(f"Stripe asks to slow down{request}.", status=status, retry_after=_seconds(headers))
    param = details.get("param")
    kind = StripeMissing if status == 404 else StripeRefused
    sentence = f"Stripe refused the request: {code or details.get('type')}, parameter {param}{request}."
    return kind(sentence, status=status, stripe_code=code, param=param)


def _seconds(headers: Mapping[str, str]) -> float | None:
    value = headers.get("Retry-After") or headers.get("retry-after") or ""
    return float(value) if value.isdecimal() else None


def _id_of(made: Json) -> str:
    if not isinstance(made.get("id"), str):
        raise StripeUnclear("Stripe's answer to a creation names no id.")
    return str(made["id"])
