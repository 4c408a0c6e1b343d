"""`onelane customers sync`: a person has one customer fetched from Stripe and compared, whatever events have said."""

import sqlalchemy as sa

from billing.clock import Clock
from billing.database import Database
from billing.errors import NotFound
from billing.models import customers


def ask_to_sync(user_id: str, *, database: Database, clock: Clock) -> str:
    """Make the user's customer due to be fetched, by the way of those that are taken over (SUB-70); its id.

    A worker does it; the caller wakes one by `SyncCustomers`. Raises NotFound where the user has no customer, or was
    erased, and LedgerUnavailable.
    """
    theirs = sa.update(customers).where(
        customers.c.user_id == user_id, customers.c.customer_id.is_not(None), customers.c.erased_at.is_(None)
    )
    with database.write() as connection:
        values = {"sync_due_at": clock.now(), "sync_failures": 0}
        customer_id = connection.scalar(theirs.values(values).returning(customers.c.customer_id))
    if customer_id is None:
        raise NotFound("Stripe customer of this user")
    return str(customer_id)
