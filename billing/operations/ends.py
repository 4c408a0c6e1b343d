"""How a subscription is going to end, and who may take that back. Pure; times in epoch seconds, as Stripe has them.

Stripe keeps one date for different things. A cancellation ends it with a period, whoever asked for it, and the buyer
may take it back. Every other date was fixed by somebody: beyond the period it is a term, within which a buyer may
cancel.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from billing.operations.calls import Call, Json, Sent, Write
from billing.subscriptions.projection import planned_end
from billing.subscriptions.stripe_fields import items_of

# 1 h: a subscription that is paused has no period any more. Its end is near, and can still be taken back.
NEAR = 3600


@dataclass(frozen=True, slots=True)
class PlannedEnd:
    """When it ends; `with_period` not after the plan's own period. `term`: the end that a cancellation replaced."""

    at: int
    is_cancellation: bool
    with_period: bool
    term: int | None = None


def find_end(subscription: Json, item: Json, cancellations: Iterable[Sent], now: int) -> PlannedEnd | None:
    """The planned end; `item` is the plan's own, `cancellations` are ours, newest first (SUB-31, SUB-85)."""
    at = planned_end(subscription)
    if at is None:
        return None
    period_end = item.get("current_period_end") or 0
    with_period = at <= (period_end if period_end > now else now + NEAR)
    for ours in cancellations:
        if ours.subscription_id == subscription["id"] and ours.ends_at == at:
            return PlannedEnd(at, True, with_period, ours.term)
    is_cancellation = bool(subscription.get("cancel_at_period_end")) or _ends_a_period(subscription, at)
    return PlannedEnd(at, is_cancellation, with_period)


def cancel(subscription: Json, item: Json, end: PlannedEnd | None, now: int) -> Call:
    """The write that ends it with the plan's own period, by its date: an add-on's period neither hurries nor delays it.

    Stripe resolves `cancel_at_period_end` to the earliest end of any item, and moves it when items change. It is sent
    in one case only: the period is over and Stripe is about to begin the next, so there is no date to name yet.
    """
    id_, period_end = str(subscription["id"]), item.get("current_period_end") or 0
    term = end.at if end else None
    if period_end > now or subscription.get("status") == "paused":
        ends_at = period_end if period_end > now else now + NEAR
        return Call(Write.CANCEL, id_, {"cancel_at": ends_at, "proration_behavior": "none"}, id_, term)
    return Call(Write.CANCEL, id_, {"cancel_at_period_end": True}, id_, term)


def take_back(subscription: Json, end: PlannedEnd) -> Call:
    """The write that takes a cancellation back: without an end, or with the one that was fixed before."""
    id_ = str(subscription["id"])
    parameters: Json = {"cancel_at": end.term or "", "proration_behavior": "none"}
    if subscription.get("cancel_at_period_end") and end.term is None:
        parameters = {"cancel_at_period_end": False}
    return Call(Write.REACTIVATE, id_, parameters, id_)


def _ends_a_period(subscription: Json, at: int) -> bool:
    """Whether it was canceled in this period, for its end: as the portal does in flexible billing mode.

    A date that was set before the period began, or with the subscription, was a term and is one.
    """
    canceled_at, created = subscription.get("canceled_at") or 0, subscription.get("created") or 0
    return any(
        item.get("current_period_end") == at and canceled_at > max(item.get("current_period_start") or 0, created)
        for item in items_of(subscription)
    )
