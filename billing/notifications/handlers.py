"""Handlers: Python functions that hear of changes, for whoever would rather write those than an HTTP endpoint.

    from billing.notifications.handlers import Notification, on

    @on("subscription.activated")
    def welcome(notification: Notification) -> None: ...

`APP_HANDLERS` names the module; workers import it at their start. What holds for calls holds for these: in order for
each customer, at least once, and again for three days as long as one raises. What they raise stays out of the logs.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from billing.errors import ConfigurationError
from billing.notifications.senders import NotDelivered
from billing.subscriptions.projection import CHANGES


@dataclass(frozen=True, slots=True)
class Notification:
    """One change. `message_id` is the same whenever it comes again; `data` is what a call's `data` would be."""

    message_id: str
    type: str
    timestamp: str  # ISO 8601, UTC: when the change was seen
    data: Mapping[str, Any]


Handler = Callable[[Notification], None]
_registered: dict[str, list[Handler]] = {}


def on(*types: str) -> Callable[[Handler], Handler]:
    """Register a function for these types of change, or for every type when none is named."""
    if unknown := sorted(set(types) - CHANGES):
        raise ConfigurationError(f"There is no change {unknown[0]!r}. There are {', '.join(sorted(CHANGES))}.")

    def register(handler: Handler) -> Handler:
        for name in types or CHANGES:
            _registered.setdefault(name, []).append(handler)
        return handler

    return register


class HandlerNotifier:
    """Calls the functions that were registered for a change, in the order in which they were."""

    def __init__(self, module: str) -> None:
        try:
            importlib.import_module(module)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"APP_HANDLERS names {module}, which cannot be imported ({type(error).__name__}: {error})."
            ) from error

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        """Hand the change to each. Raises NotDelivered when one of them raised; all of them hear of it again."""
        del at  # that is for signing
        change = Notification(message_id, str(body["type"]), str(body["timestamp"]), body["data"])
        for handler in _registered.get(change.type, ()):
            try:
                handler(change)
            except Exception as error:  # noqa: BLE001 - it is theirs, whatever it is
                name = f"{handler.__module__}.{handler.__qualname__}"
                raise NotDelivered(f"The handler {name} raised {type(error).__name__}.") from None
