"""A snapshot of Stripe for one operation: the subscription that its buyer is shown, and the schedule over it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from billing.checkout.context import Context
from billing.operations.decide import Kind, Snapshot
from billing.operations.store import Operation
from billing.subscriptions.access import choose
from billing.subscriptions.fetch import fetch_missing, or_none
from billing.subscriptions.projection import belongs, is_live, project, schedule_of
from billing.subscriptions.projection_store import read_subscriptions


def take_snapshot(operation: Operation, customer_id: str | None, ctx: Context) -> Snapshot | None:
    """Step 4: the subscription that its buyer sees, read by id, with its schedule; None without a customer.

    Raises what the gateway raises.
    """
    if customer_id is None:
        return None
    if operation.kind is Kind.PORTAL:
        customer = or_none(ctx.stripe.get_customer, customer_id)
        return Snapshot(customer_id, None, None) if customer and not customer.get("deleted") else None
    chosen = operation.subscription_id or _choose(customer_id, ctx)
    # By id: a list promises no read-after-write, and this may follow a write of our own.
    subscription = or_none(ctx.stripe.get_subscription, chosen) if chosen else None
    if operation.subscription_id and operation.failure is None and not is_going_on(subscription):
        # A duplicate that was ended meanwhile, for example: its user is shown the other one by now (SUB-37).
        other = _choose(customer_id, ctx, until=operation.arrived_at)
        subscription = or_none(ctx.stripe.get_subscription, other) if other else subscription
    schedule_id = schedule_of(subscription or {})
    schedule = or_none(ctx.stripe.get_schedule, schedule_id) if schedule_id else None
    return Snapshot(customer_id, subscription, schedule)


def is_going_on(subscription: Mapping[str, Any] | None) -> bool:
    """Whether Stripe has the subscription, in a status that can still bill."""
    return subscription is not None and is_live(str(subscription.get("status")))


def _choose(customer_id: str, ctx: Context, *, until: datetime | None = None) -> str | None:
    """Of several, the one that GET /v1/subscription shows the user (SUB-37).

    A subscription that Stripe's list does not show yet counts, too: its user sees it, so they may change it. With
    `until`, those bought later do not count.
    """
    now = ctx.clock.now()
    with ctx.database.read() as connection:
        shown = [row.subscription_id for row in read_subscriptions(connection, customer_id) if is_live(row.status)]
    listed = or_none(ctx.stripe.list_subscriptions, customer_id) or []
    rows = [
        project(subscription, customer_id=customer_id, catalog=ctx.catalog, schedule=None, before=None, now=now)
        for subscription in [*listed, *fetch_missing(customer_id, shown, listed, ctx.stripe)]
        if belongs(subscription, ctx.catalog) and is_going_on(subscription)
    ]
    rows = [row for row in rows if until is None or row.created_at <= until]
    chosen = choose(rows, now, ctx.catalog.access)
    return chosen.subscription_id if chosen else None
