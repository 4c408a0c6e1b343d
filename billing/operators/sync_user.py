"""`onelane customers sync`: a worker compares one user with Stripe now, and corrects what differs.

The wish is a time on the user's row, as for a customer that was taken over (SUB-70). So no Stripe key is needed here,
and where the message is lost the sweep finds it.
"""

from dataclasses import dataclass

import sqlalchemy as sa

from billing.catalog import Catalog
from billing.clock import Clock
from billing.customers import due_syncs
from billing.customers.store import read_customer
from billing.database import Database
from billing.errors import NotFound, PermanentError, UserErased
from billing.models import outbox
from billing.operators.customer import explain_access
from billing.operators.listing import Row
from billing.subscriptions import product_trial
from billing.subscriptions.projection_store import read_subscriptions


class NoCustomer(PermanentError):
    """The user has no Stripe customer, so there is nothing to compare."""

    code = "no_customer"


@dataclass(frozen=True, slots=True)
class Asked:
    """A comparison that was asked for. `after` is the newest change that was noted before it."""

    user_id: str
    customer_id: str
    after: int


def ask_for_sync(user_id: str, *, database: Database, clock: Clock) -> Asked:
    """Have a user compared with Stripe as soon as a worker is free; the caller wakes one by `SyncCustomers`.

    Raises NotFound, UserErased, NoCustomer and LedgerUnavailable.
    """
    with database.write() as connection:
        row = read_customer(connection, user_id)
        if row is None:
            raise NotFound("user")
        if row.is_erased:
            raise UserErased
        if row.customer_id is None:
            raise NoCustomer("This user has no Stripe customer yet: they have never come to a payment page.")
        after = connection.scalar(sa.select(sa.func.max(outbox.c.id)))
        due_syncs.ask(connection, user_id, now=clock.now())
    return Asked(user_id, row.customer_id, int(after or 0))


def look_up_sync(asked: Asked, *, database: Database, catalog: Catalog, clock: Clock) -> Row:
    """`synced` says whether it is done; `changes` are those that were found, `access` is what the user has now.

    While it is not done, `error` is why the last try failed, or None.
    """
    with database.read() as connection:
        due, error = due_syncs.read_wish(connection, asked.user_id)
        changes = sa.select(outbox.c.kind).where(outbox.c.customer_id == asked.customer_id, outbox.c.id > asked.after)
        return {
            "user_id": asked.user_id,
            "customer_id": asked.customer_id,
            "synced": not due,
            "changes": list(connection.scalars(changes.order_by(outbox.c.id))),
            "access": explain_access(
                read_subscriptions(connection, asked.customer_id),
                product_trial.read(connection, asked.user_id, catalog.product),
                catalog,
                clock.now(),
            ),
            "error": error,
        }
