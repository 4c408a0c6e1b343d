"""A snapshot of Stripe for one operation: the subscription that its buyer is shown, and the schedule over it.

A cancellation is about all of the product's live subscriptions.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.checkout.context import Context
from billing.operations.calls import Governed, Kind, Snapshot
from billing.operations.store import Operation, find_cancellations
from billing.subscriptions.access import choose
from billing.subscriptions.fetch import fetch_missing, or_none
from billing.subscriptions.projection import Subscription, begins_ours, belongs, is_live, project, schedule_of
from billing.subscriptions.projection_store import read_subscriptions


def take_snapshot(operation: Operation, customer_id: str | None, ctx: Context) -> Snapshot | None:
    """Step 4: the subscription that its buyer sees, read by id, with its schedule; None without a customer.

    Raises what the gateway raises.
    """
    if customer_id is None:
        return None
    if operation.kind is Kind.PORTAL:
        customer = or_none(ctx.stripe.get_customer, customer_id)
        return Snapshot(customer_id, None) if customer and not customer.get("deleted") else None
    live: list[Subscription] | None = None
    if operation.kind is Kind.CANCEL or operation.subscription_id is None:
        live = _list_live(customer_id, ctx)
    chosen = operation.subscription_id or _choose(live or [], ctx)
    # By id: a list promises no read-after-write, and this may follow a write of our own.
    subscription = or_none(ctx.stripe.get_subscription, chosen) if chosen else None
    if operation.subscription_id and operation.failure is None and not is_going_on(subscription):
        # A duplicate that was ended meanwhile, for example: its user is shown the other one by now (SUB-37).
        live = _list_live(customer_id, ctx) if live is None else live
        other = _choose(live, ctx, until=operation.arrived_at)
        subscription = or_none(ctx.stripe.get_subscription, other) if other else subscription
    shown = _governed(subscription, ctx) if subscription else None
    others: list[Governed] = []
    coming: list[Mapping[str, Any]] = []
    if operation.kind is Kind.CANCEL:
        others = _others(shown, live or [], operation.arrived_at, ctx)
        coming = _coming(customer_id, ctx)
    with ctx.database.read() as connection:
        cancellations = find_cancellations(connection, operation.lane_id)
    return Snapshot(customer_id, shown, others, coming, cancellations)


def is_going_on(subscription: Mapping[str, Any] | None) -> bool:
    """Whether Stripe has the subscription, in a status that can still bill."""
    return subscription is not None and is_live(str(subscription.get("status")))


def _others(shown: Governed | None, live: list[Subscription], until: datetime, ctx: Context) -> list[Governed]:
    """The product's other live subscriptions, oldest first, each by its id; those bought later do not count."""
    rows = sorted(live, key=lambda row: (row.created_at, row.subscription_id))
    ids = [row.subscription_id for row in rows if _is_older(row, until)]
    found = [or_none(ctx.stripe.get_subscription, id_) for id_ in ids if shown is None or id_ != shown.id]
    return [_governed(subscription, ctx) for subscription in found if subscription is not None]


def _coming(customer_id: str, ctx: Context) -> list[Mapping[str, Any]]:
    """The schedules that are to begin a subscription to the product later: by our tag, or by a price that is sold."""
    listed = or_none(ctx.stripe.list_coming_schedules, customer_id) or []
    return [schedule for schedule in listed if begins_ours(schedule, ctx.catalog)]


def _governed(subscription: Mapping[str, Any], ctx: Context) -> Governed:
    schedule_id = schedule_of(subscription)
    return Governed(subscription, or_none(ctx.stripe.get_schedule, schedule_id) if schedule_id else None)


def _list_live(customer_id: str, ctx: Context) -> list[Subscription]:
    """The product's live subscriptions of this customer.

    One that Stripe's list does not show yet counts, too: its user sees it, so they may change it.
    """
    now = ctx.clock.now()
    with ctx.database.read() as connection:
        known = {row.subscription_id: row for row in read_subscriptions(connection, customer_id)}
    shown = [id_ for id_, row in known.items() if is_live(row.status)]
    listed = or_none(ctx.stripe.list_subscriptions, customer_id) or []

    def as_shown(subscription: Mapping[str, Any]) -> Subscription:
        """Its money and its test clock's time are those of the last fetch, as in what its user is shown (SUB-37)."""
        before = known.get(str(subscription["id"]))
        whose: dict[str, Any] = {"customer_id": customer_id, "catalog": ctx.catalog, "schedule": None}
        return project(subscription, **whose, before=before, now=now, frozen_at=before.frozen_at if before else None)

    return [
        as_shown(subscription)
        for subscription in [*listed, *fetch_missing(customer_id, shown, listed, ctx.stripe)]
        if belongs(subscription, ctx.catalog) and is_going_on(subscription)
    ]


def _is_older(row: Subscription, until: datetime) -> bool:
    """Whether it was there by then. On a test clock nobody can tell: it counts (SUB-119)."""
    return row.created_at <= until or row.frozen_at is not None


def _choose(live: list[Subscription], ctx: Context, *, until: datetime | None = None) -> str | None:
    """Of several, the one that GET /v1/subscription shows (SUB-37); `until`: those bought later do not count."""
    rows = [row for row in live if until is None or _is_older(row, until)]
    chosen = choose(rows, ctx.clock.now(), ctx.catalog.access)
    return chosen.subscription_id if chosen else None
