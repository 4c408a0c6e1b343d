"""Product trials: access without a subscription, once for each user, begun by their first read (SUB-63 to SUB-65)."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.customers.store import IS_ERASED
from billing.database import insert_new
from billing.models import AttemptOutcome, attempts, customers, lanes, product_trials, projections, subscriptions


@dataclass(frozen=True, slots=True)
class Trial:
    started_at: datetime
    ends_at: datetime


def read(connection: sa.Connection, user_id: str, product: str) -> Trial | None:
    """The user's trial, over or not; None when none has begun."""
    own = (product_trials.c.user_id == user_id, product_trials.c.product == product)
    row = connection.execute(sa.select(product_trials.c.started_at, product_trials.c.ends_at).where(*own)).first()
    return None if row is None else Trial(**row._mapping)


def may_begin(connection: sa.Connection, user_id: str, product: str) -> bool:
    """Whether the user is new: no trial yet, no subscription that ever began, and no customer that was never fetched.

    A paid session stays on its attempt, also when Stripe has deleted the customer since. An imported customer who was
    never fetched may have any subscription at Stripe.
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
    tried = sa.exists().where(product_trials.c.user_id == user_id, product_trials.c.product == product)
    erased = sa.exists().where(*ours, IS_ERASED)
    excluded = sa.or_(tried, sa.exists().where(begun), paid, unknown, erased)
    return not connection.scalar(sa.select(excluded))


def begin(connection: sa.Connection, user_id: str, product: str, *, days: int, now: datetime) -> Trial | None:
    """Begin the user's trial if they are still new; the trial that exists then, whichever request began it."""
    if may_begin(connection, user_id, product):
        values = {"user_id": user_id, "product": product, "started_at": now, "ends_at": now + timedelta(days=days)}
        insert_new(connection, product_trials, values)  # of several first reads at once, one inserts
    return read(connection, user_id, product)
