"""HTTP for the gateway: at a bounded pace, answers bounded in size and time, no redirects.

The SDK's own client bounds neither the size of an answer nor the time that it takes to read. STRIPE_API_BASE may name
a server that is not Stripe (faults row 46).
"""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import unquote

import stripe
import urllib3
from requests.utils import get_environ_proxies, select_proxy
from urllib3.exceptions import HTTPError, SSLError

from billing.stripe_gateway.pace import Pace

MOST_BYTES = 8 * 1024 * 1024  # unpacked: a page of 100 large sessions has 1 MB
PIECE_BYTES = 64 * 1024


class PacedClient(stripe.HTTPClient):
    """A transport at the pace of the process: every attempt waits for its turn, the SDK's retries too."""

    name = "paced"

    def __init__(self, inner: stripe.HTTPClient, pace: Pace, *, buyer: bool) -> None:
        super().__init__()
        self.inner, self.pace = inner, pace
        self._buyer = buyer

    def request(  # type: ignore[override]  # bytes where its base says str, as in the SDK's own clients
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """Send one request in its turn. A 429 slows the whole process, unless it is about one busy object."""
        self.pace.wait(buyer=self._buyer)
        answer: tuple[Any, int, Mapping[str, str]] = self.inner.request(method, url, headers, post_data)
        body, status, answered = answer
        if status == 429 and b'"lock_timeout"' not in body:
            self.pace.refused()
        return body, status, answered

    def close(self) -> None:
        """Close the connections."""
        self.inner.close()  # type: ignore[no-untyped-call]


class BoundedClient(stripe.HTTPClient):
    """The SDK's transport over urllib3: no redirects, an answer within MOST_BYTES and the timeout.

    It does without `requests`, which takes as long as the rest of a call together, reads the environment's proxies
    at each call, and lets a .netrc replace our key.
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
        """Close the connections."""
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
