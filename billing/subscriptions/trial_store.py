"""The ledger of product trials: every SQL statement about access without a subscription, once for each user."""

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from billing.database import insert_new
from billing.models import AttemptOutcome, attempts, customers, lanes, product_trials, projections, subscriptions


@dataclass(frozen=True, slots=True)
class Trial:
    """Access for so long, begun by a user's first look."""

    started_at: datetime
    ends_at: datetime


def read(connection: sa.Connection, user_id: str, product: str) -> Trial | None:
    """The user's trial, over or not; None when there never was one."""
    own = (product_trials.c.user_id == user_id, product_trials.c.product == product)
    row = connection.execute(sa.select(product_trials.c.started_at, product_trials.c.ends_at).where(*own)).first()
    return None if row is None else Trial(**row._mapping)


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


def begin(connection: sa.Connection, user_id: str, product: str, *, days: int, now: datetime) -> Trial | None:
    """Begin the user's trial unless they are not new any more; the one there is, whoever began it."""
    if may_begin(connection, user_id, product):
        values = {"user_id": user_id, "product": product, "started_at": now, "ends_at": now + timedelta(days=days)}
        insert_new(connection, product_trials, values)  # of several first looks at once, one wins
    return read(connection, user_id, product)
