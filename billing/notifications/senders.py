"""Senders of changes: a signed HTTP call by Standard Webhooks, or a log line where no APP_WEBHOOK_URL is set.

`webhook-id` stays the same over all attempts, so that the receiver can drop repetitions. `handlers.py` has the third
sender; `billing/services.py` chooses one.
"""

import base64
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol

import requests
import structlog
from standardwebhooks import Webhook

from billing.errors import ConfigurationError, TransientError
from billing.process.deadline import Deadline

log = structlog.get_logger(__name__)

SHORTEST_KEY = 24  # bytes, by the standard
# Of a whole call, below the lease of the row (25 s): an application that needs longer answers first and works later.
# Within it 3 s to connect, and 10 s without a byte.
DEADLINE_SECONDS = 13.0
TIMEOUT_SECONDS = (3, 10)
MOST_CALLS = 64  # at once, those included that were given up and have not ended: as many as a worker's threads


class NotDelivered(TransientError):
    """The application did not answer with a 2xx."""

    code = "not_delivered"

    def __init__(self, sentence: str, *, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status  # of the answer, where there was one


class Notifier(Protocol):
    """Sends changes to the application."""

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> int | None:
        """Send `body` (type, timestamp, data) under the id `message_id`; `at` is the time of signing.

        The status that was answered, where it is a call over HTTP. Raises NotDelivered.
        """


class HttpNotifier:
    def __init__(self, url: str, secret: str) -> None:
        self._url = url
        self._webhook = _webhook(secret)
        self._session = requests.Session()
        self._deadline = Deadline(DEADLINE_SECONDS, most=MOST_CALLS)

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> int:
        """Post the signed body. Any 2xx is a delivery; a redirect is not followed. Raises NotDelivered."""
        data = json.dumps(body, separators=(",", ":"), ensure_ascii=False)
        headers = {
            "content-type": "application/json",
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": self._webhook.sign(message_id, at, data),
        }
        try:
            status = self._deadline.call(lambda: self._post(data.encode(), headers))
        except (requests.RequestException, TimeoutError) as error:
            raise NotDelivered(f"The application did not answer: {_why(error)}.") from None
        if not 200 <= status < 300:
            redirects = ", a redirect, which is not followed" if 300 <= status < 400 else ""
            raise NotDelivered(f"The application answered {status}{redirects}.", status=status)
        return status

    def _post(self, data: bytes, headers: Mapping[str, str]) -> int:
        """The status of the answer, whose body is never read."""
        with self._session.post(
            self._url, data=data, headers=headers, timeout=TIMEOUT_SECONDS, allow_redirects=False, stream=True
        ) as answer:
            return answer.status_code


class LogNotifier:
    """The twin: logs the type of each change, without its contents."""

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        log.debug("notification.not_configured", message_id=message_id, type=body.get("type"))


def _why(error: Exception) -> str:
    """Why there was no answer, without an address. The order matters: a failure of TLS is one to connect, too."""
    match error:
        case requests.exceptions.SSLError():
            return "TLS fails, since its certificate is not accepted or it speaks none"
        case requests.exceptions.ConnectTimeout():
            return f"no connection within {TIMEOUT_SECONDS[0]} s"
        case requests.exceptions.Timeout():
            return f"nothing came for {TIMEOUT_SECONDS[1]} s"
        case TimeoutError():
            return f"not all of it within {DEADLINE_SECONDS:.0f} s"
        case requests.exceptions.ConnectionError():
            return "no connection, since nothing listens there or its name is not known"
        case _:
            return type(error).__name__


def _webhook(secret: str) -> Webhook:
    """The signer: `whsec_` and base64, as Standard Webhooks has it."""
    encoded = secret.removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except ValueError:  # not base64, or not even ASCII
        key = b""
    if len(key) < SHORTEST_KEY:
        raise ConfigurationError(
            "APP_WEBHOOK_SECRET is no Standard Webhooks secret. Set it to whsec_ and 24 to 64 random bytes in base64."
        )
    return Webhook(key)
