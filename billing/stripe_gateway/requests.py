"""One request to Stripe and its answer, by Stripe's own SDK, over any base address.

Answers are plain dicts, since an SDK object costs 25 times a plain parse. Errors are ours. Reads are tried twice;
writes once, because the protocols decide what to repeat.
"""

import contextvars
import copy
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self

import stripe
import structlog
from prometheus_client import Counter

from billing.clock import Clock
from billing.errors import StripeUnclear
from billing.stripe_gateway.errors import translate
from billing.stripe_gateway.pace import Pace
from billing.stripe_gateway.port import Json, Page
from billing.stripe_gateway.transport import BoundedClient, PacedClient

# The version that the code was written for; the account's default may change.
API_VERSION = "2026-10-28.endive"
PAGE = 100  # Stripe's largest
log = structlog.get_logger(__name__)
REQUESTS = Counter("onelane_stripe_requests_total", "Requests to Stripe.", ["route", "status"])


class StripeRequests:
    """Stripe, or anything with its API. `route` is an address; `id_` stands for the `{id}` in it."""

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
        # 40: each of 16 lanes reads two or three things in parallel, one of them in its own thread.
        self._readers = ThreadPoolExecutor(40, thread_name_prefix="stripe")

    def now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.now().timestamp() + self._ahead, UTC)

    def low_priority(self) -> Self:
        other = copy.copy(self)  # the same connections, threads and budget
        other._client = self._background
        return other

    def in_parallel(self, *calls: Callable[[], Any]) -> list[Any]:
        others = [self._readers.submit(contextvars.copy_context().run, call) for call in calls[1:]]
        first = [call() for call in calls[:1]]
        return first + [other.result() for other in others]

    def _all(self, route: str, **filters: Any) -> list[Json]:
        found: list[Json] = []
        after: str | None = None
        while True:
            page = self._page(route, after, **filters)
            found += page.items
            if not page.has_more:
                return found
            after = page.items[-1]["id"]

    def _page(self, route: str, after: str | None, **filters: Any) -> Page:
        more = {"starting_after": after} if after else {}
        answer = self._get(route, limit=PAGE, **filters, **more)
        items = answer.get("data")
        if not isinstance(items, list):
            raise StripeUnclear("Stripe answered a list request with something that is no list.")
        if items and items[-1]["id"] == after:
            raise StripeUnclear("Stripe answered a list request with the same page again.")
        return Page(items, bool(answer.get("has_more")) and bool(items))

    def _get(self, route: str, *, id_: str = "", **query: Any) -> Json:
        return self._request("get", route, id_, max_network_retries=1, **query)

    def _post(
        self, route: str, parameters: Mapping[str, Any], *, id_: str = "", idempotency_key: str | None = None
    ) -> Json:
        options = {"idempotency_key": idempotency_key} if idempotency_key else {}
        return self._request("post", route, id_, max_network_retries=0, **options, **parameters)

    def _delete(self, route: str, *, id_: str, **parameters: Any) -> None:
        self._request("delete", route, id_, max_network_retries=0, **parameters)

    def _request(self, method: str, route: str, id_: str, /, **arguments: Any) -> Json:
        label = f"{method.upper()} {route}"
        try:
            answer = self._client.raw_request(method, route.replace("{id}", id_), **arguments)
        except stripe.StripeError as error:
            REQUESTS.labels(label, str(error.http_status or "none")).inc()
            self._note_date(error.headers)
            # from None: the SDK's error holds the body, and with it a session's URL or an email.
            raise translate(error, label) from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The SDK raises these for a proxy's {"error": "Bad Gateway"}, or a page that is not in UTF-8.
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
                return  # not a date
