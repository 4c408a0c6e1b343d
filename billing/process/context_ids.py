"""The ids that follow a piece of work from the web through the queue to the worker, as fields of every log line.

They live in structlog's context. A message carries them in a header of its own, which decides nothing: what a header
has that is no such id is left out.
"""

import re
from collections.abc import Mapping
from typing import Any

import structlog

HEADER = "onelane_ids"
NAMES = ("request_id", "checkout_id", "operation_id", "customer_id")
MOST_EVENTS = 20  # ids in one line
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}")


def carried() -> dict[str, str]:
    """The ids of this moment, for the header of a message."""
    return _ids(structlog.contextvars.get_contextvars())


def received(headers: object) -> dict[str, str]:
    """The ids that a message brings."""
    found = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return _ids(found) if isinstance(found, Mapping) else {}


def _ids(found: Mapping[str, Any]) -> dict[str, str]:
    given = {name: found.get(name) for name in NAMES}
    return {name: value for name, value in given.items() if isinstance(value, str) and _ID.fullmatch(value)}
