"""The policy: of several live subscriptions of our product, which one stays and which may be canceled. Pure.

Stripe's plain dicts come in, a decision goes out. The oldest by (created, id) stays, so every worker that reads the
same subscriptions decides the same. An unclear case is left to a person.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from billing.catalog import Catalog
from billing.rules.product_tag import is_tagged
from billing.subscriptions.projection import belongs, is_live

# Only in favour of one of these is another canceled: not of one that may never be paid or is about to end.
LASTING = frozenset({"active", "trialing", "past_due"})


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` says why a duplicate that is not in `cancel` needs a person."""

    live: tuple[str, ...] = ()  # oldest first
    cancel: tuple[str, ...] = ()
    reason: str | None = None


def decide(subscriptions: Iterable[Mapping[str, Any]], catalog: Catalog) -> Decision:
    """Which of a customer's subscriptions to cancel (SUB-16 to SUB-18)."""
    ours = [subscription for subscription in subscriptions if belongs(subscription, catalog)]
    live = [subscription for subscription in ours if is_live(str(subscription.get("status")))]
    live.sort(key=lambda subscription: (subscription.get("created") or 0, str(subscription["id"])))
    ids = tuple(str(subscription["id"]) for subscription in live)
    if len(live) < 2:
        return Decision(ids)
    oldest, *newer = live
    if oldest.get("status") not in LASTING or oldest.get("cancel_at") or oldest.get("cancel_at_period_end"):
        how = "is about to end" if oldest.get("status") in LASTING else f"is {oldest.get('status')}"
        return Decision(ids, (), f"The oldest, {ids[0]}, {how}: a person has to decide which one stays.")
    elsewhere = [str(subscription["id"]) for subscription in newer if not is_tagged(subscription, catalog.product)]
    reason = f"Made elsewhere, so a person has to decide: {', '.join(elsewhere)}." if elsewhere else None
    return Decision(ids, tuple(id_ for id_ in ids[1:] if id_ not in elsewhere), reason)
