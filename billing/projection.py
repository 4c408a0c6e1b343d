"""The projection: what a Stripe subscription means to us. Pure.

Stripe's plain dicts come in; rows for the table `subscriptions` and the changes between two states of it
go out. Unknown fields are ignored, missing ones are None: Stripe's answer is never a reason to fail.
"""

from collections.abc import Mapping
from typing import Any

from billing.catalog import Catalog

# A subscription in one of these is over; in any other state (also one that Stripe adds) it counts as live.
ENDED = frozenset({"canceled", "incomplete_expired"})


def is_live(status: str) -> bool:
    """Whether a subscription in this Stripe status blocks a second one (SUB-1)."""
    return status not in ENDED


def belongs(subscription: Mapping[str, Any], catalog: Catalog) -> bool:
    """Whether it is of our product: it carries our tag, or has an item whose price the catalog sells (SUB-2)."""
    metadata = subscription.get("metadata") or {}
    if metadata.get("type") == catalog.product:
        return True
    return any(catalog.plan_of_price(_price_id(item)) for item in _items(subscription))


def _items(subscription: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = (subscription.get("items") or {}).get("data") or []
    return [item for item in items if isinstance(item, Mapping)]


def _price_id(item: Mapping[str, Any]) -> str | None:
    """The id of the item's price, expanded or not."""
    price = item.get("price")
    found = price.get("id") if isinstance(price, Mapping) else price
    return found if isinstance(found, str) else None
