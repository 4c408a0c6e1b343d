"""The first place of `on` and `Notification`, kept for applications that import them from here.

New code has `from onelane import Notification, on`.
"""

from billing.notifications.handlers import Notification, on

__all__ = ["Notification", "on"]
