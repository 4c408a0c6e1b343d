"""The public names: what an application's own code may import.

    from onelane import Notification, on

They are found when they are asked for. `onelane/__main__.py` has to put the import path in order before any of our
packages is imported, and it is part of this package.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from billing.notifications.handlers import Notification, on

__all__ = ["Notification", "on"]


def __getattr__(name: str) -> Any:
    """Give a public name."""
    if name not in __all__:
        raise AttributeError(f"module 'onelane' has no attribute {name!r}")
    from billing.notifications import handlers

    return getattr(handlers, name)
