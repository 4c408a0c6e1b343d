"""One request to Stripe and its answer, by Stripe's own SDK, over any base address.

Answers are plain dicts, since an SDK object costs 25 times a plain parse. Errors are ours. Reads are tried twice;
writes once, because the protocols decide what to repeat. `BoundedClient` is the HTTP below it. The SDK's own bounds
neither the size of an answer nor the time to read it, and STRIPE_API_BASE may name a server that is not Stripe.
"""

import contextvars
import copy
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import unquote

import stripe
import structlog
import urllib3
from prometheus_client import Counter
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError, SSLError

from billing.clock import Clock
from billing.errors import StripeMisconfigured, StripeRefused, StripeUnclear
from billing.process import marks
from billing.stripe_gateway.errors import translate
from billing.stripe_gateway.pace import Pace, PacedClient
from billing.stripe_gateway.port import Json, Page

# The version that the code was written for; the account's default may change.
API_VERSION = "2026-10-28.endive"
PAGE = 100  # Stripe's largest
MOST_BYTES = 8 * 1024 * 1024  # unpacked: a page of 100 large sessions has 1 MB
PIECE_BYTES = 64 * 1024
# The SDK's own figures need a home, to keep an id in. Without one the first call fails (OPS-153).
stripe.enable_telemetry = False
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
        pace: Pace,
        http_client: stripe.HTTPClient | None = None,
    ) -> None:
        http = http_client or BoundedClient(timeout_seconds, address=api_base or stripe.DEFAULT_API_BASE)
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
        self._refused: set[str] = set()  # what our key was not let do, and has not done since
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
            try:
                page = self._page(route, after, **filters)
            except StripeRefused as refused:
                if refused.param == "starting_after":  # what the last page ended with is gone, such as a draft
                    raise StripeUnclear("A list of Stripe's changed while it was read.") from refused
                raise
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
        if answer.get("has_more") and not items:
            raise StripeUnclear("Stripe answered a list request with an empty page, and says that there is more.")
        return Page(items, bool(answer.get("has_more")))

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
        started = time.monotonic()
        try:
            answer = self._client.raw_request(method, route.replace("{id}", id_), **arguments)
        except stripe.StripeError as error:
            REQUESTS.labels(label, str(error.http_status or "none")).inc()
            self._note_date(error.headers)
            _log(label, error.http_status, error.headers, started)
            if error.http_status == HTTPStatus.TOO_MANY_REQUESTS:
                marks.note(marks.STRIPE_LIMITED, label)
            translated = translate(error, label)
            if isinstance(translated, StripeMisconfigured):
                self._refused.add(label)
                marks.note(marks.KEY_REFUSED, translated.sentence)
            # from None: the SDK's error holds the body, and with it a session's URL or an email.
            raise translated from None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # The SDK raises these for a proxy's {"error": "Bad Gateway"}, or a page that is not in UTF-8.
            REQUESTS.labels(label, "none").inc()
            log.warning("stripe.answer_unreadable", route=label, error=type(error).__name__)
            raise StripeUnclear("Stripe's answer could not be read.") from None
        REQUESTS.labels(label, str(answer.code)).inc()
        self._note_date(answer.headers)
        _log(label, answer.code, answer.headers, started)
        if label in self._refused:
            self._refused.discard(label)
            marks.note(marks.KEY_TAKEN, label)
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


def _log(route: str, status: int | None, headers: Mapping[str, str] | None, started: float) -> None:
    """One line about a call, with the id by which Stripe's Dashboard shows it. What was refused is there by default."""
    took = round((time.monotonic() - started) * 1000, 1)
    tell = log.debug if status is not None and status < 400 else log.info
    id_ = (headers or {}).get("Request-Id") or (headers or {}).get("request-id")
    tell("stripe.answered", route=route, status=status, stripe_request_id=id_, ms=took)


class BoundedClient(stripe.HTTPClient):
    """The SDK's transport over urllib3: no redirects, an answer within MOST_BYTES and the timeout.

    It does without `requests`. That takes as long as the rest of a call together, reads the environment's proxies at
    each call, and lets a .netrc replace our key.
    """

    name = "urllib3"

    def __init__(self, timeout_seconds: float, *, address: str) -> None:
        super().__init__()
        self._pool = _pools(address)(
            maxsize=64,
            timeout=timeout_seconds,
            retries=False,  # the SDK decides what is sent again; redirects are not followed either
            ca_certs=stripe.ca_bundle_path,
        )
        self._longest = timeout_seconds

    def request(  # type: ignore[override]  # bytes where its base says str, as in the SDK's own clients
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request and read its whole answer. Raises APIConnectionError."""
        body = bytearray()
        deadline = time.monotonic() + self._longest
        try:
            answer = self._pool.request(
                method.upper(), url, headers=headers, body=post_data, preload_content=False, redirect=False
            )
        except SSLError as error:
            raise _failed(f"Stripe's certificate is not valid: {type(error).__name__}.", retry=False) from None
        except (HTTPError, OSError) as error:
            raise _failed(f"No connection: {type(error).__name__}.", retry=True) from None
        try:
            while piece := answer.read1(PIECE_BYTES, decode_content=True):  # unpacked piece by piece
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > deadline:
                    raise _failed("The answer is too large or too slow.", retry=False)
        except (HTTPError, OSError) as error:
            raise _failed(f"The answer broke off: {type(error).__name__}.", retry=True) from None
        finally:
            answer.close()  # one that was read to its end is back in the pool by now; one that broke off must not be
        return bytes(body), answer.status, answer.headers

    def close(self) -> None:
        self._pool.clear()


def _pools(address: str) -> Callable[..., urllib3.PoolManager]:
    """Give the pool: straight to Stripe, or through the proxy that HTTPS_PROXY and NO_PROXY name for it."""
    proxy = select_proxy(address, get_environ_proxies(address))
    if not proxy:
        return urllib3.PoolManager
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    login = urllib3.util.make_headers(proxy_basic_auth=unquote(urllib3.util.parse_url(proxy).auth or "") or None)
    return partial(urllib3.ProxyManager, proxy, proxy_headers=login)


def _failed(message: str, *, retry: bool) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(message, should_retry=retry)  # type: ignore[no-untyped-call]
