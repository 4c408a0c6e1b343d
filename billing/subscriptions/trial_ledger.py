"""The ledger of product trials: every SQL statement about access without a subscription, once for each user."""

from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.database import insert_new
from billing.models import AttemptOutcome, attempts, customers, lanes, product_trials, projections, subscriptions


def read_end(connection: sa.Connection, user_id: str, product: str) -> datetime | None:
    """When the user's trial ends, or ended; None when there never was one."""
    own = (product_trials.c.user_id == user_id, product_trials.c.product == product)
    return connection.scalar(sa.select(product_trials.c.ends_at).where(*own))


def may_begin(connection: sa.Connection, user_id: str, product: str) -> bool:
    """Whether the user is new: no trial yet, no subscription that ever began, and none that we cannot know of.

    A paid session is remembered by its attempt, also when Stripe has deleted the customer since. An imported customer
    who was never fetched may have anything at Stripe.
    """
    ours = (customers.c.user_id == user_id,)
    theirs = sa.select(customers.c.customer_id).where(*ours).scalar_subquery()
    begun = sa.and_(
        subscriptions.c.customer_id == theirs,
        subscriptions.c.product == product,
        subscriptions.c.status.not_in(["incomplete", "incomplete_expired"]),
    )
    paid = sa.exists().where(
        lanes.c.user_id == user_id,
        lanes.c.product == product,
        attempts.c.lane_id == lanes.c.id,
        attempts.c.outcome == AttemptOutcome.COMPLETED,
    )
    unknown = sa.exists().where(
        *ours,
        customers.c.customer_id.is_not(None),
        customers.c.requested_at.is_(None),  # not made by us
        ~sa.exists().where(projections.c.customer_id == customers.c.customer_id),
    )
    had = sa.exists().where(product_trials.c.user_id == user_id, product_trials.c.product == product)
    erased = sa.exists().where(*ours, customers.c.erased_at.is_not(None))
    against = sa.or_(had, sa.exists().where(begun), paid, unknown, erased)
    return not connection.scalar(sa.select(against))


def begin(connection: sa.Connection, user_id: str, product: str, *, days: int, now: datetime) -> datetime | None:
    """Begin the user's trial unless they are not new any more; when it ends, whoever began it."""
    if may_begin(connection, user_id, product):
        values = {"user_id": user_id, "product": product, "started_at": now, "ends_at": now + timedelta(days=days)}
        insert_new(connection, product_trials, values)  # of several first looks at once, one wins
    return read_end(connection, user_id, product)
