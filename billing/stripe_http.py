"""How the gateway speaks HTTP: at a bounded pace, answers bounded in size and time, no redirects.

The SDK's own client reads whatever comes for as long as it comes; behind an address that can be set, that is not ours
to trust (faults row 46).
"""

import threading
import time
from collections.abc import Mapping
from typing import Any

import requests
import stripe
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

MOST_BYTES = 8 * 1024 * 1024  # unpacked: a page of 100 large sessions has 1 MB
PIECE_BYTES = 64 * 1024


class Pace:
    """At most so many requests a second from this process; a second's worth may go out at once."""

    def __init__(self, per_second: float) -> None:
        self._interval = 1 / per_second
        self._taken = 0.0  # the moment up to which requests have been let through
        self._guard = threading.Lock()

    def wait(self) -> None:
        """Wait for one's turn."""
        with self._guard:
            now = time.monotonic()
            self._taken = max(self._taken, now - 1) + self._interval
            ahead = self._taken - now
        if ahead > 0:
            time.sleep(ahead)


class _NoRedirects(requests.Session):
    """An API does not redirect; whoever does is not Stripe, and must not be sent the key."""

    def get_redirect_target(self, resp: requests.Response) -> None:
        return None


class BoundedClient(stripe.RequestsClient):
    """The SDK's client, except that it reads no more than MOST_BYTES of an answer and no longer than its timeout."""

    def __init__(self, timeout_seconds: float) -> None:
        session = _NoRedirects()
        for scheme in ("https://", "http://"):
            session.mount(scheme, HTTPAdapter(pool_maxsize=64))
        super().__init__(timeout=timeout_seconds, session=session)
        self._longest = timeout_seconds

    def request(  # type: ignore[override]  # bytes where its base says str, as in the SDK's own clients
        self, method: str, url: str, headers: Mapping[str, str] | None, post_data: Any = None
    ) -> tuple[bytes, int, Mapping[str, str]]:
        """One request and its whole answer. Raises APIConnectionError."""
        raw, status, answered = self.request_stream(method, url, headers, post_data)
        deadline = time.monotonic() + self._longest
        body = bytearray()
        try:
            while piece := raw.read1(PIECE_BYTES, decode_content=True):  # unpacked as it is read, never more at once
                body += piece
                if len(body) > MOST_BYTES or time.monotonic() > deadline:
                    raise _unread("The answer is too large or too slow.", should_retry=False)
        except (HTTPError, OSError) as error:
            raise _unread(f"The answer broke off: {type(error).__name__}.", should_retry=True) from None
        finally:
            raw.close()  # read to its end, its connection is back in the pool by now; broken off, it must not be
        return bytes(body), status, answered


def _unread(message: str, *, should_retry: bool) -> stripe.APIConnectionError:
    return stripe.APIConnectionError(message, should_retry=should_retry)  # type: ignore[no-untyped-call]
