"""Handlers: Python functions of the application that are called for changes, in place of an HTTP endpoint.

    from onelane import Notification, on

    @on("subscription.activated")
    def welcome(notification: Notification) -> None: ...

`APP_HANDLERS` names the module, or its file; workers import it at their start. Order and repetition are as with calls
over HTTP: in order for each customer, at least once, and for three days while a handler raises. The text of an
exception of theirs is not logged.
"""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from billing.errors import ConfigurationError
from billing.notifications.senders import NotDelivered
from billing.subscriptions.projection import CHANGES


@dataclass(frozen=True, slots=True)
class Notification:
    """One change. `message_id` is the same for every attempt; `data` is the `data` of the HTTP call."""

    message_id: str
    type: str
    timestamp: str  # ISO 8601, UTC: when the change was seen
    data: Mapping[str, Any]


Handler = Callable[[Notification], None]
FILE_MODULE = "app_handlers"  # what a module that was given as a file is called
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
    """Calls the functions that are registered for a change, in the order of their registration."""

    def __init__(self, module: str) -> None:
        try:
            _load(module)
        except ConfigurationError:
            raise
        except Exception as error:
            raise ConfigurationError(
                f"APP_HANDLERS names {module}, which cannot be imported ({type(error).__name__}: {error})."
            ) from error

    def send(self, message_id: str, body: Mapping[str, Any], *, at: datetime) -> None:
        """Call each handler. Raises NotDelivered when one raised; then all are called again later."""
        del at  # only a signature needs it
        change = Notification(message_id, str(body["type"]), str(body["timestamp"]), body["data"])
        for handler in _registered.get(change.type, ()):
            try:
                handler(change)
            except Exception as error:  # noqa: BLE001 - an application's code may raise anything
                name = f"{handler.__module__}.{handler.__qualname__}"
                raise NotDelivered(f"The handler {name} raised {type(error).__name__}.") from None


def _load(name: str) -> None:
    """Import the module, or the file of this path. Modules that it imports are looked for in the working directory."""
    # First on the path, as `python -m` has it. Our own packages are loaded by now, so none of theirs replaces them.
    if os.getcwd() not in sys.path[:1]:
        sys.path.insert(0, os.getcwd())
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    spec = importlib.util.spec_from_file_location(FILE_MODULE, Path(name).resolve())
    assert spec is not None  # it ends in .py
    assert spec.loader is not None
    module = sys.modules[FILE_MODULE] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
